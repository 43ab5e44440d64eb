"""ImageNet's validation set in every form it comes in, made small."""

import csv
import io

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
from attnguide.data.find import GROUND_TRUTH
from attnguide.models.preprocess import Preprocess

WNIDS = ImageNetInfo().label_names()
# Twelve pictures of four classes, which the devkit numbers in its own way.
CLASSES = [WNIDS[i] for i in (340, 0, 999, 386)]
DEVKIT = dict(zip((7, 3, 12, 1), CLASSES, strict=True))
NAMES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 13)]
TRUTH = {name: CLASSES[(5 * i + 1) % 4] for i, name in enumerate(NAMES)}
LABELS = {name: WNIDS.index(wnid) for name, wnid in TRUTH.items()}


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
        (root / wnid).mkdir(parents=True, exist_ok=True)
        (root / wnid / name).write_bytes(jpeg(name))


def val_beside_train(root):
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
    root.mkdir(exist_ok=True)
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


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """The `datasets` library reads parquet and tar files into a folder of the test."""
    place = str(tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", place)


def save(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), grey).save(path)


def model_of(*names):
    """A tiny network with these classes."""
    return wrap_model(tiny(num_classes=len(names)).module, Preprocess((16, 16)), list(names))


def chosen(root, vit=None, **settings):
    """All items of the pictures at a root."""
    return Photographs("imagenet_val", str(root), **settings).all(vit or tiny()).items


def labels(items):
    return {item.id: item.label for item in items}


def number_of(item):
    """Which of the pictures this is, from its grey."""
    return round(np.asarray(item.load().picture).mean() / 20)
