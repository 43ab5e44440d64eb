"""Arrays from the original authors' code, and the pictures they were made from."""

from functools import cache

import numpy as np
from PIL import Image

from attnguide import load_model

FIRST = "n01443537_goldfish.JPEG"


@cache
def real(shared):
    """The real ViT-Tiny."""
    weights = shared / "assets/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    return load_model("vit_tiny_patch16_224", checkpoint=weights)


@cache
def arrays(shared, name="others_dev"):
    return np.load(shared / f"oracles/{name}.npz")


def image(shared, case):
    """(1, 3, 224, 224) of a case of the arrays."""
    pair = shared / "assets/pairs" / case
    path = pair if pair.exists() else shared / "assets/imagenet_sample" / case.split("_")[0] / case
    return real(shared).preprocess([Image.open(path)])


def cases(table, key):
    """Case to its targets, for one kind of array."""
    found = {}
    for kind, case, target in (name.split("|") for name in table.files if name.count("|") == 2):
        if kind == key:
            found.setdefault(case, []).append(int(target))
    return found


def error(got, expected):
    """Largest difference over the largest value; of a map of zeros nothing may be left."""
    return abs(np.asarray(got) - expected).max() / (abs(expected).max() or 1e-12)
