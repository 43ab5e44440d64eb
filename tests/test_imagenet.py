"""ImageNet's validation set gets the same labels in every form it comes in."""

import csv
import hashlib
import io
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from scipy.io import savemat
from timm.data import ImageNetInfo
from tiny import tiny

from attnguide import wrap_model
from attnguide.data import Photographs
from attnguide.data.imagenet import GROUND_TRUTH, devkit_order
from attnguide.models.preprocess import Preprocess

WNIDS = ImageNetInfo().label_names()
# Twelve pictures of four classes, which the devkit numbers in its own way.
CLASSES = [WNIDS[i] for i in (340, 0, 999, 386)]
DEVKIT = dict(zip((7, 3, 12, 1), CLASSES, strict=True))
NAMES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 13)]
TRUTH = {name: CLASSES[(5 * i + 1) % 4] for i, name in enumerate(NAMES)}
LABELS = {name: WNIDS.index(wnid) for name, wnid in TRUTH.items()}


@pytest.fixture(scope="module")
def vit():
    """A tiny network with ImageNet's classes."""
    return wrap_model(tiny(num_classes=1000).module, Preprocess((16, 16)), name="tiny imagenet")


def jpeg(name):
    """A picture whose grey tells which one it is."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 20 * NAMES.index(name)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def flat(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_bytes(jpeg(name))


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def ground_truth(folder):
    folder.mkdir(parents=True, exist_ok=True)
    number = {wnid: key for key, wnid in DEVKIT.items()}
    (folder / GROUND_TRUTH).write_text("".join(f"{number[TRUTH[n]]}\n" for n in NAMES))


def write_parquet(path, names, paths=None, **columns):
    """Shard with columns of (values, feature)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = paths or names
    images = [{"bytes": jpeg(n), "path": p} for n, p in zip(names, paths, strict=True)]
    data = {"image": images} | {key: list(values) for key, (values, _) in columns.items()}
    features = Features({"image": ImageFeature()} | {key: f for key, (_, f) in columns.items()})
    Dataset.from_dict(data, features).to_parquet(path)


# One function per form: makes it in an empty folder


def wnid_folders(root):
    for name, wnid in TRUTH.items():
        (root / wnid).mkdir(exist_ok=True)
        (root / wnid / name).write_bytes(jpeg(name))


def val_beside_train(root):
    (root / "val").mkdir()
    wnid_folders(root / "val")
    (root / "train" / WNIDS[5]).mkdir(parents=True)
    (root / "train" / WNIDS[5] / "never.JPEG").write_bytes(b"")


def flat_with_wnid_csv(root):
    flat(root)
    write_csv(root / "val.csv", ["filename", "wnid"], TRUTH.items())
    write_csv(root / "a_table_of_something_else.csv", ["height", "width"], [(1, 2)])


def flat_val_with_label_csv(root):
    flat(root / "val")
    write_csv(root / "labels.csv", ["image", "label"], list(LABELS.items())[::-1])


def as_kaggle_gives_it(root):
    flat(root / "ILSVRC/Data/CLS-LOC/val")
    rows = [(name.split(".")[0], f"{wnid} 1 2 3 4 {wnid} 5 6 7 8") for name, wnid in TRUTH.items()]
    write_csv(root / "LOC_val_solution.csv", ["ImageId", "PredictionString"], rows)


def devkit_with_meta_mat(root):
    flat(root)
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    ground_truth(folder)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, "words", 0) for number, wnid in sorted(DEVKIT.items())]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kind)})


def devkit_with_text(root):
    flat(root / "val")
    ground_truth(root / "devkit" / "data")
    lines = "".join(f"{wnid} {number} some_words\n" for number, wnid in DEVKIT.items())
    (root / "devkit" / "data" / "map_clsloc.txt").write_text(lines)


def parquet_as_the_hub_gives_it(root):
    meaning = ClassLabel(names=[f"description {i}" for i in range(1000)])
    for part, names in enumerate((NAMES[:5], NAMES[5:])):
        paths = [name.replace(".JPEG", f"_{TRUTH[name]}.JPEG") for name in names]
        file = root / "data" / f"validation-{part:05d}-of-00002.parquet"
        write_parquet(file, names, paths, label=([LABELS[n] for n in names], meaning))
    write_parquet(root / "data" / "train-00000-of-00001.parquet", NAMES[:1], ["never.JPEG"])


def parquet_numbering_the_present_classes(root):
    present = sorted(CLASSES)
    numbers = [present.index(TRUTH[name]) for name in NAMES]
    write_parquet(root / "all.parquet", NAMES, label=(numbers, ClassLabel(names=present)))


def parquet_with_wnid_column(root):
    write_parquet(root / "x.parquet", NAMES, wnid=(TRUTH.values(), Value("string")))


def parquet_of_bare_bytes_and_numbers(root):
    table = {"image": [jpeg(name) for name in NAMES], "label": list(LABELS.values())}
    pq.write_table(pa.table(table), root / "bare.parquet", row_group_size=5)


FORMS = [
    wnid_folders,
    val_beside_train,
    flat_with_wnid_csv,
    flat_val_with_label_csv,
    as_kaggle_gives_it,
    devkit_with_meta_mat,
    devkit_with_text,
    parquet_as_the_hub_gives_it,
    parquet_numbering_the_present_classes,
    parquet_with_wnid_column,
]


def number_of(item):
    """Which of the pictures this is, from its grey."""
    return round(np.asarray(item.load().picture).mean() / 20)


def chosen(vit, root, **settings):
    """All items of the pictures at a root."""
    return Photographs("imagenet_val", str(root), **settings).all(vit).items


def labels(items):
    return {item.id: item.label for item in items}


@pytest.mark.parametrize("make", FORMS)
def test_every_form_gives_the_same_pictures_with_the_same_labels(make, tmp_path, vit, caplog):
    caplog.set_level(logging.INFO)
    make(tmp_path)
    items = chosen(vit, tmp_path)
    assert labels(items) == LABELS
    assert [NAMES[number_of(item)] for item in items] == [item.id for item in items]
    assert "12 pictures in" in caplog.text


@pytest.mark.parametrize("make", FORMS)
def test_every_form_gives_the_same_choice(make, tmp_path, vit):
    make(tmp_path)
    items = chosen(vit, tmp_path, num_images=4, seed=2)
    ranked = sorted(NAMES, key=lambda name: hashlib.sha256(f"2:{name}".encode()).hexdigest())
    best = {TRUTH[name]: name for name in reversed(ranked)}
    assert sorted(labels(items)) == sorted(best.values())


def test_alphabetical_list_is_not_taken_for_the_devkits_order(tmp_path, vit):
    flat(tmp_path)
    ground_truth(tmp_path)
    (tmp_path / "synset_words.txt").write_text("".join(f"{wnid} words\n" for wnid in WNIDS))
    with pytest.raises(ValueError, match=r"synset_words.txt is alphabetical.*meta.mat"):
        chosen(vit, tmp_path)
    devkits_own = [DEVKIT.get(number, WNIDS[20 + number]) for number in range(1, 13)]
    (tmp_path / "wnids.txt").write_text("\n".join(devkits_own))
    assert devkit_order(tmp_path) == dict(enumerate(devkits_own, 1))
    items = chosen(vit, tmp_path)
    assert labels(items) == LABELS


def test_pictures_beyond_the_ground_truth_are_refused(tmp_path, vit):
    devkit_with_text(tmp_path)
    (tmp_path / "val" / "ILSVRC2012_val_00000013.JPEG").write_bytes(jpeg(NAMES[0]))
    with pytest.raises(ValueError, match=r"12 lines .* ILSVRC2012_val_00000013.JPEG"):
        chosen(vit, tmp_path)


def test_csv_with_missing_pictures_or_cells_is_refused(tmp_path, vit):
    flat(tmp_path)
    write_csv(tmp_path / "val.csv", ["filename", "wnid"], list(TRUTH.items())[:-2])
    with pytest.raises(ValueError, match=r"no line for 2 of 12 pictures.*val_00000011"):
        chosen(vit, tmp_path)
    write_csv(tmp_path / "val.csv", ["filename", "wnid"], [*TRUTH.items(), ("x.JPEG", "")])
    with pytest.raises(ValueError, match=r"val.csv line 14"):
        chosen(vit, tmp_path)


def test_class_names_in_a_csv_are_found_in_the_model(tmp_path, vit):
    flat(tmp_path)
    names = dict(zip(CLASSES, ("zebra", "Tinca tinca", "999", "African elephant"), strict=True))
    write_csv(tmp_path / "val.csv", ["file", "class"], [(n, names[w]) for n, w in TRUTH.items()])
    items = chosen(vit, tmp_path)
    assert labels(items) == LABELS


def test_hub_without_access_says_what_to_do_at_once(vit, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for root in (
        "ILSVRC/imagenet-1k",
        "hf://ILSVRC/imagenet-1k",
        "hf://datasets/ILSVRC/imagenet-1k",
    ):
        with pytest.raises(ValueError, match=r"(?s)ILSVRC/imagenet-1k .*gated.*licence.*HF_TOKEN"):
            chosen(vit, root)


def test_hub_shards_are_read_like_local_ones(tmp_path, vit, monkeypatch):
    parquet_as_the_hub_gives_it(tmp_path)
    asked = []

    def download(dataset, **options):
        asked.append((dataset, options["repo_type"], options["allow_patterns"]))
        for file in tmp_path.glob("data/train-*"):
            file.unlink()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    items = chosen(vit, "hf://ILSVRC/imagenet-1k")
    assert labels(items) == LABELS
    assert asked == [("ILSVRC/imagenet-1k", "dataset", ["*validation*.parquet"])]


def test_five_of_each_class_are_5000_and_without_zebras_4995(tmp_path, vit):
    for number, wnid in enumerate(WNIDS * 6, 1):
        (tmp_path / wnid).mkdir(exist_ok=True)
        (tmp_path / wnid / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    found = Photographs(root=str(tmp_path), num_images=5000).singles(vit, exclude=[340])
    counts = np.bincount([item.label for item in found.items], minlength=1000)
    assert counts[340] == 0
    assert (np.delete(counts, 340) == 5).all()
    assert len(found.items) == 4995
    assert found.note == "Pictures of the guide's class that were left out: 5."
