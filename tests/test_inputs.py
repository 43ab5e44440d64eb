"""What people pass in a notebook: targets, pictures, networks; understood, or told what to pass."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from tiny import pictures, tiny

from attnguide import explain, perturb

MAP = torch.zeros(1, 4, 4)
FORMS = [
    "class 3",
    "3",
    ["class 3"] * 3,
    np.int64(3),
    np.array([3, 3, 3]),
    np.array(["class 3"] * 3),
    [np.int32(3), torch.tensor(3), "class 3"],
    torch.tensor([3, 3, 3], dtype=torch.uint8),
    torch.nn.functional.one_hot(torch.tensor([3, 3, 3]), 5),
    torch.nn.functional.one_hot(torch.tensor([3, 3, 3]), 5).float(),
    np.eye(5)[[3, 3, 3]],
    np.eye(5, dtype=bool)[[3, 3, 3]],
    (3, 3, 3),
]


@pytest.mark.parametrize("target", FORMS, ids=repr)
def test_what_people_pass_as_a_target(target):
    vit = tiny()
    images = pictures(vit)
    expected = explain(vit, images, 3)
    got = explain(vit, images, target)
    assert got.target.tolist() == [3, 3, 3]
    assert got.target.dtype == torch.int64
    assert torch.equal(got.relevance, expected.relevance)
    assert explain(vit, images, got).target.tolist() == [3, 3, 3]


def test_no_target_is_the_model_s_own_answer():
    vit = tiny()
    images = pictures(vit)
    assert torch.equal(explain(vit, images, None).target, explain(vit, images).prediction)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3.0, TypeError, "a class is an index or a name, got float 3.0"),
        ([1, 2.5, 3], TypeError, "got float 2.5"),
        (True, TypeError, "got bool True"),
        (np.array([0.5, 1.0, 2.0]), TypeError, "class indices"),
        ([[0, 1], [2], [3]], ValueError, "as many classes for every image"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), ValueError, "one class or one per image"),
        (torch.zeros(3), TypeError, "int64"),
        ([0, 1], ValueError, "one class or one per image"),
        (5, ValueError, r"class index must lie in \[0, 4\]"),
        ("clas 3", ValueError, "no names of its classes; pass model.class_names=FILE"),
    ],
)
def test_what_is_no_target_is_refused(target, error, message):
    vit = tiny()
    with pytest.raises(error, match=message):
        explain(vit, pictures(vit), target)


@pytest.mark.parametrize("door", ["explain", "perturb"])
@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([1, 2], TypeError, r"images must be a Tensor.*vit\.preprocess"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), TypeError, "normalised.*got torch.uint8"),
        (torch.zeros(1, 3, 8, 8), ValueError, r"must be \(B, 3, 16, 16\).*vit\.preprocess"),
        (torch.zeros(0, 3, 16, 16), ValueError, "empty batch"),
        (torch.full((1, 3, 16, 16), torch.nan), ValueError, "images contain NaN"),
        (torch.full((1, 3, 16, 16), 200.0), ValueError, "normalised, got pixels from 0 to 200"),
    ],
)
def test_images_that_do_not_fit_are_told_what_to_do(door, images, error, message):
    vit = tiny()
    with pytest.raises(error, match=message):
        explain(vit, images, 0) if door == "explain" else perturb(vit, images, MAP, 0)


def test_images_that_are_differentiated_elsewhere_stay_so():
    vit = tiny()
    images = pictures(vit).requires_grad_()
    explain(vit, images, 1)
    assert images.grad is None
    assert images.requires_grad


class Answer(VisionTransformer):
    """Answers with more than its logits."""

    def forward(self, x):
        features = self.forward_features(x)
        logits = self.forward_head(features)
        return self.form(logits, features)


FORMS_OF_ANSWERS = {
    "tuple": lambda logits, features: (logits, features),
    "features first": lambda logits, features: [features, logits],
    "dict": lambda logits, features: {"features": features, "logits": logits},
    "named": lambda logits, features: {"logits": logits},
}


@pytest.mark.parametrize("form", FORMS_OF_ANSWERS)
@pytest.mark.parametrize("method", ["complete", "gradcam", "tam", "dix", "vit_cx", "tis"])
def test_logits_are_found_in_what_a_network_answers(form, method):
    vit = tiny()
    images = pictures(vit, 1)
    expected = explain(vit, images, 1, method=method)
    vit.module.__class__ = Answer
    vit.module.form = FORMS_OF_ANSWERS[form]
    got = explain(vit, images, 1, method=method)
    torch.testing.assert_close(got.relevance, expected.relevance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got.logits, expected.logits)


def test_an_answer_without_logits_is_refused():
    vit = tiny()
    vit.module.__class__ = Answer
    for form in (lambda logits, _: {"scores": logits}, lambda logits, _: (logits, logits)):
        vit.module.form = form
        with pytest.raises(ValueError, match=r"must return logits \(B, 5\)"):
            explain(vit, pictures(vit), 1)
