"""What `perturb` takes and refuses."""

import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, perturb


def test_a_model_in_training_mode_is_evaluated_and_given_back():
    vit = tiny(proj_drop_rate=0.5, drop_path_rate=0.5, pos_drop_rate=0.5)
    vit.module.eval()
    images, relevance = pictures(vit, 2), torch.rand(2, *vit.grid)
    plain = perturb(vit, images, relevance, 0)
    vit.module.train()
    vit.module.blocks[0].eval()
    assert torch.equal(perturb(vit, images, relevance, 0).logit, plain.logit)
    assert vit.module.training
    assert not vit.module.blocks[0].training
    assert all(parameter.requires_grad for parameter in vit.module.parameters())
    dropping = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
    images, relevance = torch.rand(2, 3, 8, 8), torch.rand(2, 2, 2)
    first = perturb(dropping, images, relevance, 0)
    assert torch.equal(first.logit, perturb(dropping, images, relevance, 0).logit)
    assert dropping.training


def test_perturb_takes_what_explain_takes():
    vit = tiny()
    images = pictures(vit, 2)
    explanation = explain(vit, images, ["class 3", "class 1"])
    ours = perturb(vit, images, explanation, ["class 3", "class 1"])
    plain = perturb(vit, images, explanation.relevance, torch.tensor([3, 1]))
    assert torch.equal(ours.logit, plain.logit)
    one = perturb(vit, images[0], explain(vit, images[0], "class 3"), "class 3")
    torch.testing.assert_close(one.logit[0], ours.logit[0])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"relevance": torch.zeros(2, 2, 2)}, ValueError, "are 4 x 4, the relevance is 2 x 2"),
        ({"relevance": torch.zeros(2, 3, 4, 4)}, ValueError, r"must be \(B, rows, cols\)"),
        ({"relevance": [[0.0]]}, TypeError, "a Tensor .* or an Explanation, got list"),
        ({"images": "a.png"}, TypeError, "images must be a Tensor"),
        ({"images": torch.zeros(2, 3, 32, 32)}, ValueError, r"must be \(B, 3, 16, 16\)"),
        ({"images": torch.zeros(0, 3, 16, 16)}, ValueError, "at least one"),
        ({"images": torch.full((2, 3, 16, 16), torch.inf)}, ValueError, "images contain NaN"),
        ({"label": "zebra"}, ValueError, "unknown class 'zebra'"),
        ({"label": [1, 5]}, ValueError, r"must lie in \[0, 4\]"),
        ({"label": [1, 2, 3]}, ValueError, "one class or one per image"),
    ],
)
def test_what_perturb_does_not_take(change, kind, message):
    vit = tiny()
    given = {"images": pictures(vit, 2), "relevance": torch.zeros(2, 4, 4), "label": 0} | change
    with pytest.raises(kind, match=message):
        perturb(vit, **given)


def test_logits_that_are_not_finite_are_refused():
    model = lambda images: images.mean((-2, -1)) / 0  # noqa: E731
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        perturb(model, torch.ones(1, 3, 8, 8), torch.rand(1, 2, 2), 0)
    with pytest.raises(ValueError, match="only a ViT knows"):
        perturb(model, torch.ones(1, 3, 8, 8), torch.rand(1, 2, 2), "zebra")
