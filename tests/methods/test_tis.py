"""Transformer input sampling, and the k-means that makes its masks."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from method_checks import check_refused, counted
from published import FIRST, arrays, cases, error, image, real
from scipy.cluster.vq import kmeans2
from scipy.stats import spearmanr
from tiny import SHAPES, pictures, tiny

from attnguide import explain, wrap_model
from attnguide.methods._sampling import progress
from attnguide.methods.tis import k_means, mean_over_masks, token_masks
from attnguide.tracing.tokens import kept_logits

FEW = {"n_masks": 12}


def from_stored_masks(shared, case, count):
    """Worst error of the scores, and of the map, made from the first masks of the original."""
    stages, variants = arrays(shared, "others_dev_stages"), arrays(shared, "others_dev_variants")
    keep = torch.from_numpy(stages[f"tis.masks|{case}"]).bool()
    logits = kept_logits(real(shared), image(shared, case), keep[:count], 64, lambda: None)
    errors = []
    for target in cases(variants, "tis@raw")[case]:
        stored = stages[f"tis.scores|{case}|{target}"]
        score = logits.softmax(-1)[:, target]
        errors.append(error(score, stored[:count]))
        full = torch.from_numpy(stored).float()
        full[:count] = score
        expected = variants[f"tis@raw|{case}|{target}"]
        errors.append(error(mean_over_masks(full, keep).view(14, 14), expected))
    return max(errors)


CASES = [FIRST, "el2.png"]
ALL_MASKS = [pytest.param(case, 1024, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(("case", "count"), [("catdog.png", 128), *ALL_MASKS])
def test_equals_the_original_code_from_its_masks(shared, case, count):
    assert from_stored_masks(shared, case, count) <= 1e-4


def test_masks_are_nearly_those_of_the_original_code(shared):
    """The same k-means up to rounding: a chance mask would share half of the bits."""
    got = token_masks(real(shared), image(shared, FIRST), 1024, 0.5, 0).numpy()
    stored = arrays(shared, "others_dev_stages")[f"tis.masks|{FIRST}"]
    assert (got == stored).mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ranks_patches_as_the_original_code_end_to_end(shared, case):
    table = arrays(shared)
    targets = cases(table, "tis")[case]
    e = explain(real(shared), image(shared, case), torch.tensor([targets]), method="tis")
    assert e.relevance.amax((-2, -1)).eq(1).all()
    assert e.relevance.amin((-2, -1)).eq(0).all()
    for column, target in enumerate(targets):
        stored = table[f"tis|{case}|{target}"].ravel()
        assert spearmanr(e.relevance[0, column].flatten(), stored)[0] >= 0.85


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"average_with_class"}))
def test_removed_patches_take_no_part(shape):
    """Logits equal those of the tokens cut out by hand."""
    vit = tiny(shape, dtype=torch.float64)
    module, picture = vit.module, pictures(vit, 1)
    patches = vit.num_tokens - vit.num_prefix
    keep = torch.stack([torch.arange(patches) % 3 == r for r in (0, 1)])[:, : patches // 3 * 3]
    keep = torch.nn.functional.pad(keep, (0, patches - keep.shape[1]))
    with torch.no_grad():
        tokens = module.norm_pre(module._pos_embed(module.patch_embed(picture)))
        prefix = torch.ones(vit.num_prefix, dtype=torch.bool)
        cut = torch.cat([tokens[:, torch.cat([prefix, row])] for row in keep])
        expected = module.forward_head(module.norm(module.blocks(cut)))
    got = kept_logits(vit, picture, keep, 1, lambda: None)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_one_sweep_serves_all_targets_in_passes_of_batch_size():
    vit = tiny(depth=3)
    with counted(vit) as calls:
        explain(
            vit,
            pictures(vit, 2),
            torch.tensor([[0, 1, 2], [3, 4, 0]]),
            method="tis",
            n_masks=50,
            batch_size=20,
        )
    # per image the masks and their passes; the logits, and those of one image to compare
    assert len(calls) == 2 * (1 + 3) + 2
    sizes = []
    block = vit.module.blocks[0]
    hook = block.register_forward_hook(lambda *seen: sizes.append(tuple(seen[2].shape[:2])))
    explain(vit, pictures(vit, 1), 1, method="tis", n_masks=50, batch_size=20)
    hook.remove()
    assert sizes[1:4] == [(20, 9), (20, 9), (10, 9)]


def test_seed_decides_the_masks():
    vit = tiny(depth=3)
    images = pictures(vit)

    def run(seed):
        return explain(vit, images, 1, method="tis", seed=seed, **FEW).relevance

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_raw_map_and_loss():
    vit = tiny(dtype=torch.float64, depth=3)
    images = pictures(vit)
    raw = explain(vit, images, 1, method="tis", normalise=False, **FEW).relevance
    probability = torch.softmax(explain(vit, images, 1).logits, -1)[:, 1]
    assert not torch.allclose(raw.mean((1, 2)), probability)
    scaled = raw - raw.amin((1, 2), keepdim=True)
    scaled = scaled / scaled.amax((1, 2), keepdim=True)
    torch.testing.assert_close(explain(vit, images, 1, method="tis", **FEW).relevance, scaled)
    settings = {"method": "tis", "normalise": False, "loss": "difference", **FEW}
    forth = explain(vit, images, 1, reference=2, **settings).relevance
    back = explain(vit, images, 2, reference=1, **settings).relevance
    torch.testing.assert_close(forth, -back)
    assert not torch.allclose(forth, raw)


def test_a_patch_that_no_mask_keeps_has_no_relevance():
    vit = tiny(depth=3)
    settings = {"n_masks": 1, "tokens_ratio": 0.25}
    raw = explain(vit, pictures(vit), 1, method="tis", normalise=False, **settings).relevance
    assert (raw > 0).sum((1, 2)).tolist() == [4, 4, 4]
    assert raw.isfinite().all()
    whole = explain(vit, pictures(vit), 1, method="tis", n_masks=3, tokens_ratio=1.0).relevance
    assert torch.equal(whole, torch.zeros_like(whole))  # constant before it is rescaled


def test_k_means_is_lloyds():
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(200, 6))
    start = samples[np.random.RandomState(5).choice(200, 7, replace=False)]
    expected, _ = kmeans2(samples, start, iter=100, minit="matrix")
    got = k_means(torch.from_numpy(samples), 7, 5, tolerance=0)
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_k_means_keeps_a_centroid_that_lost_its_samples():
    samples = torch.tensor([[1.0, 2.0]]).repeat(5, 1)
    assert torch.equal(k_means(samples, 3, 0), samples[:3])


def test_published_count_means_every_channel_of_a_small_model():
    vit = tiny(depth=3)
    every = explain(vit, pictures(vit), 1, method="tis", n_masks=72).relevance
    assert torch.equal(explain(vit, pictures(vit), 1, method="tis").relevance, every)


def test_positions_inside_the_attention_are_refused_by_name():
    vit = wrap_model(timm.create_model("vit_relpos_small_patch16_224"), name="relative")
    check_refused("tis", r"tis removes tokens.*relative depends.*vit_cx", vit=vit)
    eva = timm.create_model("eva02_tiny_patch14_224", num_classes=5, depth=1)
    check_refused("tis", r"Eva.rope", vit=wrap_model(eva))


@pytest.mark.parametrize("method", ["tis", "vit_cx"])
def test_a_convolutional_stem_is_refused_by_name(method):
    vit = replace(tiny(), patch_size=(2, 2))
    with pytest.raises(
        ValueError, match=r"expected tokens \(B, 65, D\) in tiny.*saw \(1, 17, 24\)"
    ):
        explain(vit, pictures(vit), 1, method=method, seed=1)


@pytest.mark.parametrize("terminal", [False, True])
def test_bar_shows_on_a_terminal_only(monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with progress("tis", 3) as bar:
        assert bar.disable is not terminal
