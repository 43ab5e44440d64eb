"""ImageNet's validation set: devkit, tables and hub; `test_golden_pictures` has every form."""

import numpy as np
import pytest
from picture_forms import (
    DEVKIT,
    LABELS,
    NAMES,
    TRUTH,
    WNIDS,
    chosen,
    devkit_with_text,
    flat,
    ground_truth,
    jpeg,
    labels,
    own_cache,  # noqa: F401
    parquet_as_the_hub_gives_it,
    write_csv,
)

from attnguide.data import Photographs


@pytest.mark.parametrize(
    "lines",
    [
        [f"{wnid} words" for wnid in WNIDS],  # in the models' order
        [f"{wnid} {number}" for number, wnid in enumerate(WNIDS)],  # the models' numbers
        TRUTH.values(),  # of each picture
    ],
)
def test_a_list_of_wnids_is_not_taken_for_the_devkits_order(lines, tmp_path, imagenet):
    flat(tmp_path)
    ground_truth(tmp_path)
    (tmp_path / "synsets.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="no file there says which wnid has which number; put the"):
        chosen(tmp_path, imagenet)
    own = "".join(f"{wnid} {number} 1\n" for number, wnid in DEVKIT.items())
    (tmp_path / "wnids.txt").write_text(f"{own} \n")
    assert labels(chosen(tmp_path, imagenet)) == LABELS


def test_pictures_beyond_the_ground_truth_are_refused(tmp_path, imagenet):
    devkit_with_text(tmp_path)
    (tmp_path / "val" / "ILSVRC2012_val_00000013.JPEG").write_bytes(jpeg(NAMES[0]))
    with pytest.raises(ValueError, match=r"12 lines .* ILSVRC2012_val_00000013.JPEG"):
        chosen(tmp_path, imagenet)


def test_csv_with_missing_pictures_or_cells_is_refused(tmp_path, imagenet):
    flat(tmp_path)
    write_csv(tmp_path / "val.csv", ["filename", "wnid"], list(TRUTH.items())[:-2])
    with pytest.raises(ValueError, match=r"no line for 2 of 12 pictures.*val_00000011"):
        chosen(tmp_path, imagenet)
    write_csv(tmp_path / "val.csv", ["filename", "wnid"], [*TRUTH.items(), ("x.JPEG", "")])
    with pytest.raises(ValueError, match=r"val.csv line 14"):
        chosen(tmp_path, imagenet)


def test_hub_without_access_says_what_to_do_at_once(imagenet, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for root in (
        "ILSVRC/imagenet-1k",
        "hf://ILSVRC/imagenet-1k",
        "hf://datasets/ILSVRC/imagenet-1k",
    ):
        with pytest.raises(ValueError, match=r"(?s)ILSVRC/imagenet-1k .*gated.*licence.*HF_TOKEN"):
            chosen(root, imagenet)


def test_hub_shards_are_read_like_local_ones(tmp_path, imagenet, monkeypatch):
    parquet_as_the_hub_gives_it(tmp_path)
    asked = []

    def download(dataset, **options):
        asked.append((dataset, options["repo_type"], options["allow_patterns"]))
        for file in tmp_path.glob("data/train-*"):
            file.unlink()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    items = chosen("hf://ILSVRC/imagenet-1k", imagenet)
    assert labels(items) == LABELS
    patterns = ["*validation*.parquet", "*validation*.tar"]
    assert asked == [("ILSVRC/imagenet-1k", "dataset", patterns)]


def test_five_of_each_class_are_5000_and_without_zebras_4995(tmp_path, imagenet):
    for number, wnid in enumerate(WNIDS * 6, 1):
        (tmp_path / wnid).mkdir(exist_ok=True)
        (tmp_path / wnid / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    found = Photographs(root=str(tmp_path), num_images=5000).singles(imagenet, exclude=[340])
    counts = np.bincount([item.label for item in found.items], minlength=1000)
    assert counts[340] == 0
    assert (np.delete(counts, 340) == 5).all()
    assert len(found.items) == 4995
    assert found.note == "Pictures of the guide's class that were left out: 5."
