"""Ids, labels, order and choice of photographs in every form, as they were stored once.

Run this file as a program to store them anew; the difference then says what has changed.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import picture_forms
import pytest
from picture_forms import model_of, own_cache  # noqa: F401
from PIL import Image
from tiny import tiny

from attnguide import wrap_model
from attnguide.data import Photographs
from attnguide.models.preprocess import Preprocess

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden_pictures.json"
PROJECT = HERE.parents[1]
ZEBRA, SNAIL, TUSKER, KITE = "n02391049", "n01944390", "n01871265", "n01608432"
CHOICES = [(5, 0), (5, 7), (3, 0)]
LISTS = {
    "list_of_ids.txt": f"{KITE}/3.png\n{ZEBRA}/0.png\n{SNAIL}/9.png\n",
    "list_of_short_names.txt": f"5.png\n\n./{ZEBRA}/4.png  \n7\n",
    "list_with_classes.csv": f"filename,label\n{ZEBRA}/8,340\n6.png,113\n",
}


def fill(root, *names):
    """Pictures of these names, each of another grey."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 10), 8 * number).save(root / name)


def wnid_folders(root):
    fill(root, *(f"{w}/{n}.png" for n, w in enumerate((ZEBRA, SNAIL, TUSKER, KITE) * 4)))


def named_folders(root):
    names = ("zebra", "bald_eagle", "African elephant", "Tinca tinca", "b\u00e4r")
    fill(root, *(f"{name}/{n}.jpg" for name in names[:4] for n in (10, 9, 1, 2)))


def decomposed_letters(root):
    fill(root, *(f"Ba\u0308r [braun]/{name}" for name in ("a[0]'b.png", "o\u0308.PNG")))
    fill(root, "other/c.webp", "stray.png", "other/.hidden.png")
    (root / "notes.txt").write_text("no picture")


def numbered_folders(root):
    fill(root, *(f"{name}/{n}.png" for name in ("0", "340", "0004") for n in range(3)))


def flat_folder(root):
    fill(root, "b.JPG", "a.png", "c 10.bmp", "c 9.tif", "Z.webp")


def flat_folder_with_table(root):
    fill(root, *(f"p{n}.jpg" for n in range(6)))
    rows = "".join(f"p{n}.jpg;{(ZEBRA, 'snail', '101')[n % 3]}\n" for n in range(6))
    (root / "labels.csv").write_text("filename;label\n" + rows)


FORMS = [
    wnid_folders,
    named_folders,
    decomposed_letters,
    numbered_folders,
    flat_folder,
    flat_folder_with_table,
    *(form for form in picture_forms.FORMS if form.__name__ != "wnid_folders"),
    picture_forms.parquet_of_bare_bytes_and_numbers,
]
MAKERS = {form.__name__: form for form in FORMS}
MAKERS["imagenet_in_wnid_folders"] = picture_forms.wnid_folders
MAKERS |= dict.fromkeys(LISTS, wnid_folders)


def model(form):
    """Knows ImageNet's classes, or those of `decomposed_letters`."""
    if form == "decomposed_letters":
        return model_of("other", "x", "B\u00e4r [braun]")
    return wrap_model(tiny(num_classes=1000).module, Preprocess((16, 16)), name="tiny imagenet")


def line(item, *, grey=False):
    """An item in one line; with the grey of its picture, that tells which one it is."""
    more = [text for text in (item.unit, item.part) if text]
    if grey:
        more.append(f"grey {np.asarray(item.load().picture).mean():.0f}")
    return " ".join([item.id, "label", str(item.label), *more])


def asked(pictures, vit, *questions, **settings):
    """Items of each question, in order; of one that is refused, the kind of error."""
    answers = {}
    for question in questions:
        try:
            answers[question] = getattr(pictures, question)(vit, **settings).items
        except ValueError as error:
            answers[question] = [type(error).__name__]
    return answers


def observed(form, root):
    """All that is chosen from the pictures of a form, made at a root."""
    MAKERS[form](root)
    vit, settings = model(form), {"root": str(root)}
    if form in LISTS:
        (root.parent / form).write_text(LISTS[form])
        settings["list"] = str(root.parent / form)
    whole = Photographs("imagenet_val", **settings)
    seen = {"all": [line(item, grey=True) for item in whole.all(vit).items]}
    for count, seed in () if form in LISTS else CHOICES:
        few = Photographs("folder", num_images=count, seed=seed, **settings)
        seen[f"{count} of seed {seed}"] = [item.id for item in few.all(vit).items]
    found = asked(whole, vit, "singles", "pairs")
    found |= asked(whole, vit, "shown_singles", "shown_pairs", count=2)
    for question, items in found.items():
        seen[question] = [getattr(item, "id", item) for item in items]
    units = {item.unit for item in found["pairs"] if hasattr(item, "unit")}
    return seen | {"units": sorted(units)}


def observed_sample(shared):
    """The 600 photographs and the pairs beside them; long lists by their digest."""
    vit, root = model(""), str(shared / "assets" / "imagenet_sample")
    boxes = str(PROJECT / "docs" / "boxes.json")
    seen = {}
    for count, seed in ((None, 0), (13, 0), (60, 0), (60, 1), (599, 5)):
        data = Photographs("folder", root, num_images=count, seed=seed, boxes=boxes)
        found = asked(data, vit, "all", "singles", "pairs", "boxed")
        found |= asked(data, vit, "shown_singles", "shown_pairs", count=4)
        found["without zebras"] = data.singles(vit, exclude=[340]).items
        for question, items in found.items():
            lines = [line(item) for item in items]
            seen[f"{question}, {count} of seed {seed}"] = short(lines)
    picked = [data.of_class(vit, "zebra"), data.pairs(vit).items[0], data.boxed(vit).items[0]]
    seen["pixels"] = [line(item, grey=True) for item in picked]
    guides = [data.guide_picture(vit, name) for name in (None, "tusker")]
    seen["guides"] = [f"{guide.name} {guide.label}" for guide in guides]
    return seen


def short(lines):
    """The lines; of more than twelve, the first three, how many there are, and their digest."""
    if len(lines) <= 12:
        return lines
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return [*lines[:3], f"{len(lines)} lines, {digest}"]


def as_text(stored):
    """As json with a line for each answer."""
    forms = []
    for form, answers in stored.items():
        lines = [
            f"  {json.dumps(question)}: {json.dumps(answer, ensure_ascii=False)}"
            for question, answer in answers.items()
        ]
        forms.append(f" {json.dumps(form)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(forms) + "\n}\n"


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("form", MAKERS)
def test_every_form_gives_what_it_gave(form, tmp_path, golden):
    assert observed(form, tmp_path / "data") == golden[form]


def test_the_sample_photographs_are_what_they_were(shared, golden):
    assert observed_sample(shared) == golden["imagenet_sample"]


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    stored = {}
    for form in MAKERS:
        with TemporaryDirectory() as place:
            stored[form] = observed(form, Path(place) / "data")
    stored["imagenet_sample"] = observed_sample(Path(os.environ["SHARED"]).resolve())
    sys.stdout.write(as_text(stored))
