"""The notebook's door: targets, batches, settings, errors."""

import pytest
import torch
from tiny import pictures, tiny

from attnguide import explain, explain_many, list_methods
from attnguide.types import Explanation

FAST = ["raw_attention", "rollout", "gae", "complete", "absolute"]


def test_explanation_records_everything():
    vit = tiny()
    images = pictures(vit)
    result = explain(vit, images, target=[0, 1, 2], method="rollout", normalize=True)
    assert isinstance(result, Explanation)
    assert result.relevance.shape == (3, 4, 4)
    assert result.relevance.dtype == torch.float32
    assert result.target.tolist() == [0, 1, 2]
    assert result.target.dtype == torch.int64
    torch.testing.assert_close(result.logits, vit.module(images).detach(), rtol=1e-4, atol=1e-4)
    assert result.prediction.tolist() == result.logits.argmax(-1).tolist()
    assert result.settings == {
        "loss": "logit",
        "reference": None,
        "normalize": True,
        "start_layer": 0,
    }


def test_several_targets_share_the_forward_pass():
    vit = tiny(dtype=torch.float64)
    images = pictures(vit, 2)
    calls = []
    hook = vit.module.patch_embed.register_forward_hook(lambda *args: calls.append(len(args[2])))
    targets = torch.tensor([[0, 1, 4], [2, 3, 0]])
    many = explain_many(vit, images, targets, methods=FAST)
    hook.remove()
    assert calls == [2, 1]  # all images; one by the network itself, to compare
    assert many["gae"].relevance.shape == (2, 3, 4, 4)
    for column in range(3):
        single = explain(vit, images, targets[:, column], method="complete").relevance
        torch.testing.assert_close(many["complete"].relevance[:, column], single)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "compleet"}, "unknown method 'compleet'; did you mean complete"),
        ({"method": "GradCAM"}, "did you mean gradcam or attn_gradcam"),
        ({"method": "attention_rollout"}, "did you mean rollout"),
        ({"method": "corrected_rollout", "rule": "complet"}, "unknown rule .* did you mean compl"),
        ({"loss": "logits"}, "unknown loss 'logits'; did you mean logit"),
        ({"method": "rollout", "normalise": True}, "unknown setting.*did you mean normalize"),
        ({"loss": "difference"}, "pass reference"),
        ({"loss": "difference", "reference": 1, "target": 1}, "same class"),
    ],
)
def test_bad_input_is_told_what_to_do(kwargs, message):
    vit = tiny()
    with pytest.raises(ValueError, match=message):
        explain(vit, pictures(vit), **kwargs)


def test_relative_contrast_says_where_it_means_little():
    vit = tiny()
    vit.module.head.bias.data[:] = -100
    with pytest.warns(UserWarning, match="use loss='difference'"):
        explain(vit, pictures(vit), 0, loss="relative_contrast", reference=1)


def test_no_row_of_a_rollout_belongs_to_max_pooling():
    vit = tiny(global_pool="max")
    with pytest.raises(ValueError, match=r"global_pool='token'.*gradcam"):
        explain(vit, pictures(vit), 0)


def test_settings_are_enough_to_compute_it_again():
    vit = tiny()
    images = pictures(vit)
    first = explain(
        vit,
        images,
        [0, 1, 2],
        method="tam",
        steps=3,
        loss="difference",
        reference=["class 4", "class 3", "class 0"],
    )
    assert first.settings["reference"] == [4, 3, 0]
    again = explain(vit, images, first, method=first.method, **first.settings)
    assert torch.equal(again.relevance, first.relevance)
    assert dict(again.settings) == dict(first.settings)


def test_progress_is_shown_on_request(capsys):
    vit = tiny()
    explain(vit, pictures(vit, 5), 1)
    assert capsys.readouterr().err == ""
    explain(vit, pictures(vit, 5), 1, progress=True)
    assert "5/5" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*no positive evidence", "ignore:.*ill-conditioned")
@pytest.mark.parametrize(
    ("method", "dtype"),
    [*((name, torch.bfloat16) for name in list_methods()), ("complete", torch.float16)],
)
def test_a_16_bit_model_is_explained_in_float32(method, dtype):
    vit, exact = tiny(depth=3, dtype=dtype), tiny(depth=3, dtype=torch.float64)
    images = pictures(vit, 2)
    got = explain(vit, images, 1, method=method)
    assert got.relevance.dtype == torch.float32
    if method not in ("lrp", "t_attr"):  # ill-conditioned, as they say themselves
        expected = explain(exact, images.double(), 1, method=method).relevance
        assert (got.relevance - expected).abs().max() < 0.1 * expected.abs().max()
