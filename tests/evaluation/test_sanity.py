"""Random weights, noise, rounding and sums: what is checked, and that the model comes out whole."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from running import table_of
from tiny import pictures, tiny

from attnguide.evaluation.rows import explain_batch
from attnguide.evaluation.sanity import (
    completeness_rows,
    noise_rows,
    precision_rows,
    randomised_rows,
    randomised_weights,
    relative_gap,
    spread_of_draws,
    stages,
    structural_similarity,
)
from attnguide.methods import get_method
from attnguide.store.table import read

STAGES = ["head", "norm", "block 2", "block 1", "embedding"]


def fingerprint(vit):
    digest = hashlib.sha256()
    for tensor in vit.module.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def lost(vit, before):
    now = dict(vit.module.named_parameters())
    return {name for name, old in before.items() if not torch.equal(now[name], old)}


def explained(vit, *methods, **more):
    """Three pictures by methods of these names, and by other ones."""
    found = {name: get_method(name) for name in methods} | more
    return explain_batch(vit, pictures(vit), torch.tensor([0, 1, 2]), found)


@pytest.fixture
def own(tiny_vit):
    return explained(tiny_vit, "complete", "gae")


@pytest.mark.parametrize("shape", ["class_token", "average", "registers", "distilled"])
def test_every_parameter_belongs_to_one_stage(shape):
    vit = tiny(shape)
    found = stages(vit)
    assert [stage for stage in found if stage != "norm"] == [s for s in STAGES if s != "norm"]
    names = [name for own in found.values() for name in own]
    assert sorted(names) == sorted(name for name, _ in vit.module.named_parameters())


def test_stages_are_lost_from_the_top_and_all_is_restored_exactly(tiny_vit):
    before = {n: p.detach().clone() for n, p in tiny_vit.module.named_parameters()}
    whole, expected = fingerprint(tiny_vit), set()
    with randomised_weights(tiny_vit) as losing:
        for stage in losing:
            expected |= set(stages(tiny_vit)[stage])
            assert lost(tiny_vit, before) == expected
    assert expected == set(before)
    assert fingerprint(tiny_vit) == whole


def test_weights_are_restored_after_an_error_in_the_middle(tiny_vit):
    whole = fingerprint(tiny_vit)
    with pytest.raises(RuntimeError, match="stop"), randomised_weights(tiny_vit) as losing:
        next(losing)
        raise RuntimeError("stop")
    assert fingerprint(tiny_vit) == whole


def test_layers_of_one_shape_get_different_weights_and_a_seed_the_same_ones(tiny_vit):
    drawn = []
    for seed in (3, 3, 4):
        with randomised_weights(tiny_vit, seed) as losing:
            list(losing)
            weights = [block.attn.qkv.weight.detach().clone() for block in tiny_vit.module.blocks]
            drawn.append(weights)
            assert weights[0].abs().max() <= 0.04
            assert bool((tiny_vit.module.norm.weight == 1).all())
            assert bool((tiny_vit.module.head.bias == 0).all())
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_a_network_without_blocks_is_refused(tiny_vit):
    with pytest.raises(ValueError, match="no list of its layers"):
        stages(replace(tiny_vit, module=torch.nn.Linear(2, 2)))


def test_a_map_that_ignores_the_weights_stays_and_one_of_the_weights_goes(tiny_vit):
    def edges(trace):
        """The same for any model: the picture's own brightness."""
        size = trace.images.mean(1).unfold(1, 4, 4).unfold(2, 4, 4)
        return size.std((-2, -1))

    def head(trace):
        weight = trace.vit.module.head.weight[trace.target]
        return weight[:, :16].unflatten(1, (4, 4)).detach()

    rows = randomised_rows(explained(tiny_vit, edges=edges, head=head))
    assert [
        row["stage"] for row in rows if row["index"] == 0 and row["method"] == "edges"
    ] == STAGES
    assert {row["signed"] for row in rows if row["method"] == "edges"} == {1.0}
    assert max(abs(row["signed"]) for row in rows if row["method"] == "head") < 0.9


def test_only_wanted_stages_are_explained(own):
    assert {row["stage"] for row in randomised_rows(own, wanted=["head"])} == {"head"}


def test_no_noise_changes_nothing_and_noise_is_the_same_in_every_batch(own):
    still = noise_rows(own, ["a", "b", "c"], 1e-12)
    assert min(row["signed"] for row in still) == pytest.approx(1)
    both = noise_rows(own, ["a", "b", "c"], 0.3)
    alone = noise_rows(own.part([1]), ["b"], 0.3)
    assert both[1]["signed"] == pytest.approx(alone[0]["signed"], abs=1e-6)
    assert both[1]["signed"] < 1


def test_float32_is_compared_with_float64_and_the_model_stays_as_it_was(own):
    assert 0 < max(row["error"] for row in precision_rows(own)) < 1e-3
    assert own.vit.dtype == torch.float32
    assert relative_gap(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0])) == 0.25


def test_sums_are_checked_of_methods_that_promise_one(tiny_vit):
    batch = explained(tiny_vit, "input_x_gradient", "complete")
    images, target = batch.images, batch.target
    logits = tiny_vit.module(torch.cat([images, torch.zeros_like(images[:1])])).detach()
    own = logits[:3].gather(1, target[:, None])[:, 0]
    aim = own - logits[3][target]
    exact = (aim / 16).view(3, 1, 1).expand(3, 4, 4)
    methods = {name: get_method(name) for name in ("integrated_gradients", "complete")}
    rows = completeness_rows(replace(batch, methods=methods, maps=dict.fromkeys(methods, exact)))
    assert {row["method"] for row in rows} == {"integrated_gradients"}
    assert max(row["error"] for row in rows) < 1e-5
    rows = completeness_rows(
        replace(batch, methods={"attn_lrp": get_method("attn_lrp")}, maps={"attn_lrp": 2 * exact})
    )
    expected = (2 * aim - own).abs().double()
    np.testing.assert_allclose([row["error"] for row in rows], expected, rtol=1e-5)


def test_the_checks_run_and_leave_rows_of_every_kind(small_run):
    run_dir = small_run("sanity_checks").run_dir
    rows = read(run_dir)
    counts = rows[rows["measured"]].groupby(["method", "check"])["image_id"].nunique().to_dict()
    assert counts["complete", "random weights"] == counts["attn_lrp", "completeness"] == 9
    assert counts["gae", "random weights"] == 4 + 2  # the first ones, and those that are shown
    assert counts["complete", "precision"] == 3
    assert ("complete", "completeness") not in counts
    assert "all weights lost" in set(table_of(run_dir)["measure"])
    draws = rows[rows["check"] == "random weights"].groupby("stage")["draw"].nunique()
    assert draws[draws == 2].index.tolist() == ["embedding", "head"]


def test_further_draws_of_weights_stop_at_the_head_and_at_the_end(tiny_vit):
    own = explained(tiny_vit, "complete")
    rows = pd.DataFrame(randomised_rows(own, 7, draws=3))
    assert rows[rows["draw"] == 0]["stage"].unique().tolist() == STAGES
    for draw in (1, 2):
        one = rows[rows["draw"] == draw]
        assert one["stage"].unique().tolist() == ["head", "embedding"]
        alone = randomised_rows(own, 7 + draw)
        expected = [row["signed"] for row in alone if row["stage"] in ("head", "embedding")]
        assert one["signed"].tolist() == expected
    lost = spread_of_draws(rows).set_index("stage").loc["embedding"]
    means = rows[rows["stage"] == "embedding"].groupby("draw")["signed"].mean()
    assert lost["draws"] == 3
    assert lost["sd"] == pytest.approx(means.std())
    assert (lost["least"], lost["most"]) == (means.min(), means.max())
    assert spread_of_draws(rows)["stage"].tolist() == ["head", "embedding"]  # drawn once: no spread


def test_structural_similarity_is_that_of_shifted_and_scaled_maps():
    own = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    other = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    assert structural_similarity(own, own) == pytest.approx(1)
    assert structural_similarity(own, 3 * own) == pytest.approx(1)  # neither scale
    assert structural_similarity(own, own + 9) == pytest.approx(1)  # nor offset counts
    lifted = own + 9, other + 9  # never negative: on the same footing as with both signs
    assert structural_similarity(*lifted) == pytest.approx(structural_similarity(own, other))
    assert structural_similarity(own, -own) < 0  # the sign is
    assert abs(structural_similarity(own, other)) < 0.2
    assert structural_similarity(own, other) == pytest.approx(structural_similarity(other, own))
    for nothing in (torch.zeros(12, 12), torch.ones(12, 12), torch.full((12, 12), float("nan"))):
        assert np.isnan(structural_similarity(own, nothing))
