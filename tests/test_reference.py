"""Maps of the real ViT-Tiny against arrays from the original authors' code."""

import numpy as np
import pytest
import torch
from PIL import Image

from attnguide import explain_many, load_model

KEYS = {
    "raw_attention": "raw_attention",
    "rollout": "rollout_unnormalized",
    "gae": "positive",
    "complete": "complete",
    "absolute": "absolute",
}


@pytest.fixture(scope="module")
def real(shared):
    weights = shared / "assets/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    return load_model("vit_tiny_patch16_224", checkpoint=weights)


@pytest.fixture(scope="module")
def arrays(shared):
    return np.load(shared / "oracles/chefer_dev.npz")


def picture(shared, case):
    """The picture of a case of the reference arrays."""
    pair = shared / "assets/pairs" / case
    return Image.open(
        pair if pair.exists() else shared / "assets/imagenet_sample" / case.split("_")[0] / case
    )


def cases(arrays):
    """Case to its two targets."""
    keys = [key.split("|") for key in arrays.files]
    names = sorted({key[1] for key in keys})
    return {n: sorted({int(k[2]) for k in keys if k[1] == n and k[0] == "positive"}) for n in names}


def test_maps_equal_the_original_code(shared, real, arrays):
    worst = {}
    table = cases(arrays)
    assert len(table) == 13
    for case, targets in table.items():
        images = real.preprocess(picture(shared, case))
        methods = [*KEYS, ("rollout", {"normalize": True})]
        many = explain_many(real, images, torch.tensor([targets]), methods=methods[:-1])
        np.testing.assert_allclose(many["gae"].logits[0], arrays[f"logits|{case}"], atol=1e-4)
        for name, key in KEYS.items():
            for column, target in enumerate(targets):
                full = f"{key}|{case}|{target}"
                expected = arrays[full if full in arrays.files else f"{key}|{case}|-1"]
                got = many[name].relevance[0, column].numpy()
                error = abs(got - expected).max() / abs(expected).max()
                worst[name] = max(worst.get(name, 0), error)
        normalised = explain_many(real, images, targets[0], methods=methods[-1:])["rollout"]
        expected = arrays[f"rollout_normalized|{case}|-1"]
        error = abs(normalised.relevance[0].numpy() - expected).max() / expected.max()
        worst["rollout normalised"] = max(worst.get("rollout normalised", 0), error)
    assert max(worst.values()) <= 1e-4, worst


def test_sample_picture_is_recognised(shared, real):
    """The wrong mean or crop costs a third of the top-1 answers; this pins both."""
    folder = shared / "assets/imagenet_sample"
    paths = sorted(folder.glob("*/*"))[::15]
    labels = [real.class_index(path.parent.name) for path in paths]
    with torch.inference_mode():
        logits = real.module(real.preprocess([Image.open(path) for path in paths]))
    assert (logits.argmax(-1) == torch.tensor(labels)).float().mean() > 0.7
