"""What any map must survive: random weights change it, small noise and rounding do not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from attnguide.data.views import View
from attnguide.evaluation.fills import seed_of_name
from attnguide.evaluation.metrics import completeness_error, similarity
from attnguide.evaluation.rows import Explained, Maps, explain_batch, first_targets, forward
from attnguide.evaluation.statistics import Measure
from attnguide.methods import Method, fact_of
from attnguide.tracing.tokens import layers
from attnguide.types import ViT

RANDOM, NOISY = "random weights", "noise"  # checks
ENDS = ("head", "embedding")  # first and last stage of the cascade
STD = 0.02  # of a new weight, as timm initialises a ViT


def stages(vit: ViT) -> dict[str, list[str]]:
    """Names of the parameters of every stage of weights, from the head down to the embedding.

    One stage each: the head, the final norm, every block from the last to the first; then all that
    makes tokens of the image.

    Raises:
        ValueError: a network without `blocks`.
    """
    blocks = range(len(layers(vit)), 0, -1)
    begins = {
        "head": ("head",),
        "norm": ("norm.", "fc_norm."),
        **{f"block {number}": (f"blocks.{number - 1}.",) for number in blocks},
        "embedding": ("",),
    }
    found: dict[str, list[str]] = {stage: [] for stage in begins}
    for name, _ in vit.module.named_parameters():
        found[next(stage for stage, begin in begins.items() if name.startswith(begin))].append(name)
    return {stage: names for stage, names in found.items() if names}


@contextmanager
def randomised_weights(vit: ViT, seed: int = 0) -> Iterator[Iterator[str]]:
    """Loses the weights of one stage after the other; afterwards they are what they were, exactly.

    Weights are drawn anew as timm does it: matrices, tokens and positions from a normal
    distribution of deviation 0.02, cut at two deviations, biases 0, norms 1 and 0; other vectors,
    such as layer scales, are shuffled. One generator for all stages, so that layers of one
    shape do not get the same weights.

    Args:
        vit: Its network is changed in place.
        seed: Of the generator.

    Yields:
        Names of the stages; at each, its weights and those of all stages before are lost.
    """
    parameters = dict(vit.module.named_parameters())
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(seed)

    def lose() -> Iterator[str]:
        for stage, names in stages(vit).items():
            for name in names:
                _renew(vit.module, name, parameters[name], generator)
            yield stage

    try:
        yield lose()
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])


def _renew(network: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    owner, _, own = name.rpartition(".")
    is_norm = "norm" in type(network.get_submodule(owner)).__name__.lower()
    with torch.no_grad():
        if own == "bias":
            parameter.zero_()
        elif is_norm:
            parameter.fill_(1.0)
        elif parameter.ndim == 1:
            order = torch.randperm(len(parameter), generator=generator)
            parameter.copy_(parameter[order.to(parameter.device)])
        else:
            values = torch.empty(parameter.shape)
            nn.init.trunc_normal_(values, std=STD, a=-2 * STD, b=2 * STD, generator=generator)
            parameter.copy_(values)


def randomised_rows(
    own: Explained, seed: int = 0, wanted: Sequence[str] | None = None, draws: int = 1
) -> list[dict[str, Any]]:
    """How like every map stays as the weights are lost: a row per image, method, stage and draw.

    The class stays the one explained, whatever the randomised model predicts. A constant map has
    no similarity: NaN, to be counted.

    Args:
        own: By the trained model.
        seed: Of the new weights; further draws take the next ones.
        wanted: Stages at which maps are made; all by default.
        draws: How many. The first goes through all stages; further ones, which tell how much
            depends on the draw, are explained at the `ENDS` alone.
    """
    rows = []
    for draw in range(draws):
        with randomised_weights(own.vit, seed + draw) as losing:
            for number, stage in enumerate(losing, 1):
                if (draw and stage not in ENDS) or (wanted is not None and stage not in wanted):
                    continue
                lost = explain_batch(own.vit, own.images, own.target, own.methods)
                found = _compared(RANDOM, stage, own, lost, ssim=structural_similarity)
                rows += [row | {"number": number, "draw": draw} for row in found]
    return rows


def _compared(
    check: str,
    stage: str,
    own: Explained,
    other: Explained,
    **measures: Callable[[Tensor, Tensor], float],
) -> list[dict[str, Any]]:
    """A row per method and image: how like its map is to the other, by `similarity` and more."""
    return [
        {"index": index, "method": label, "check": check, "stage": stage, **similarity(*maps)}
        | {name: measure(*maps) for name, measure in measures.items()}
        for label, found in other.maps.items()
        for index, maps in enumerate(zip(own.maps[label], found, strict=True))
    ]


def spread_of_draws(rows: pd.DataFrame, column: str = "signed") -> pd.DataFrame:
    """What the draw of weights makes of a column of `randomised_rows`, by method and stage.

    Returns:
        Columns method, stage, mean, sd, least, most (of the draws' means over pictures), draws.
    """
    several = rows[rows["draw"].groupby(rows["stage"]).transform("max") > 0]
    each = several.groupby(["method", "stage", "draw"], sort=False)[column].mean()
    found = each.groupby(["method", "stage"], sort=False).agg(["mean", "std", "min", "max", "size"])
    names = {"std": "sd", "min": "least", "max": "most", "size": "draws"}
    return found.rename(columns=names).reset_index()


def structural_similarity(first: Tensor, second: Tensor) -> float:
    """SSIM of two maps, each shifted to a mean of 0 and divided by its largest magnitude.

    Zero comes to the middle of [0, 1] for all methods. Unshifted, a method that is never negative
    has half of the range and thus less contrast to lose than one of both signs, and its offset
    counts as likeness. NaN where a map is constant or not finite.

    Source: Wang et al., IEEE TIP 2004, for parameter randomisation Adebayo et al., NeurIPS 2018;
    window and constants of torchmetrics' defaults, on maps of 4 pixels per patch.
    """
    from torchmetrics.functional import image  # drawing does without

    maps = torch.stack([first, second]).double()
    shifted = maps - maps.mean((1, 2), keepdim=True)
    largest, size = shifted.abs().amax((1, 2)), maps.abs().amax((1, 2))
    if not (size.isfinite() & (largest > 1e-12 * size)).all():
        return float("nan")
    scaled = shifted / largest.view(2, 1, 1)
    drawn = functional.interpolate((scaled[:, None] + 1) / 2, scale_factor=4, mode="bilinear")
    found = image.structural_similarity_index_measure(drawn[:1], drawn[1:], data_range=1.0)
    assert isinstance(found, Tensor)  # a pair only where the contrast is asked for too
    return float(found)


def noise_rows(
    own: Explained, names: Sequence[str], sigma: float, seed: int = 0
) -> list[dict[str, Any]]:
    """How like every map is to that of the picture with a little noise; of the same class.

    Args:
        own: Without noise.
        names: Of the images; with the seed they fix the noise.
        sigma: Standard deviation of the noise, in image space [0, 1].
        seed: Of the noise.
    """
    std, shape = getattr(own.vit.preprocess, "std", None), own.images.shape[1:]
    scale = torch.tensor(std if std is not None else (1.0, 1.0, 1.0)).view(3, 1, 1)
    draws = (torch.Generator().manual_seed(seed_of_name(name, seed)) for name in names)
    noise = torch.stack([torch.randn(shape, generator=draw) for draw in draws])
    images = own.images.cpu() + sigma / scale * noise
    noisy = explain_batch(own.vit, images, own.target, own.methods)
    return _compared(NOISY, f"{sigma:g}", own, noisy)


def precision_rows(own: Explained) -> list[dict[str, Any]]:
    """How far every map is from the one in float64: largest difference over largest relevance."""
    double = replace(own.vit, module=copy.deepcopy(own.vit.module).double())
    exact = explain_batch(double, own.images.double(), own.target, own.methods)
    return _compared("precision", "float32", own, exact, error=relative_gap)


def relative_gap(own: Tensor, exact: Tensor) -> float:
    """Largest difference of two maps over the largest relevance of the second; NaN if it is 0."""
    largest = float(exact.abs().max())
    return float((own.double() - exact.double()).abs().max()) / largest if largest else float("nan")


def completeness_rows(batch: Explained) -> list[dict[str, Any]]:
    """How far the sum of a map is from what its method promises; of methods that promise one.

    SUM in the file of a method is "difference" for the logit minus that of a grey picture (0 in
    normalised space), or "logit" for the logit alone, which biases keep a map from reaching.
    """
    grey, target = torch.zeros_like(batch.images[:1]), batch.target.cpu()
    logits = forward(batch.vit, torch.cat([batch.images, grey])).double()
    own = logits[:-1].gather(1, target.unsqueeze(1))[:, 0].numpy()
    base: NDArray[np.float64] = logits[-1][target].numpy()
    rows = []
    for label, method in batch.methods.items():
        kind = fact_of(method, "SUM", "")
        if not kind:
            continue
        total = batch.maps[label].double().sum((1, 2)).numpy()
        error, relative = completeness_error(total, own - (base if kind == "difference" else 0))
        for index, values in enumerate(zip(error, relative, strict=True)):
            rows.append({"index": index, "method": label, "check": "completeness", "stage": kind,
                         "error": float(values[0]), "relative": float(values[1])})  # fmt: skip
    return rows


def checked(
    vit: ViT,
    views: Sequence[View],
    methods: Mapping[str, Method],
    *,
    seed: int = 0,
    draws: int = 1,
    noise: float = 0.01,
    exact: bool = False,
) -> tuple[Maps, pd.DataFrame]:
    """The maps of every view's first target, and all checks of them.

    Args:
        vit, methods: As in `explain_many`.
        views: Of one model.
        seed: Of weights and noise.
        draws: As in `randomised_rows`.
        noise: Standard deviation, in image space.
        exact: Whether the maps are computed in float64 too.

    Returns:
        (B, rows, cols) by method; and a row per view, method, check and stage, with the view's
        `index`.
    """
    own = explain_batch(vit, *first_targets(views), methods)
    rows = randomised_rows(own, seed, draws=draws)
    rows += noise_rows(own, [view.id for view in views], noise, seed)
    rows += completeness_rows(own)
    rows += precision_rows(own) if exact else []
    numbers = dict.fromkeys(("number", "signed", "absolute", "ssim", "error", "relative"), np.nan)
    return own.maps, pd.DataFrame([numbers | {"draw": 0} | row for row in rows])


def value_of(check: str, column: str, stage: str = "") -> Measure:
    """A column of the rows of one check, of one stage."""

    def values(rows: pd.DataFrame) -> pd.Series[float]:
        own = rows["check"] == check
        if stage:
            own &= rows["stage"] == stage
        return rows[column].astype(float).where(own)

    return values


def digits(rows: pd.DataFrame) -> pd.Series[float]:
    """Decimal digits of the largest relevance that float32 keeps."""
    error = value_of("precision", "error")(rows)
    return pd.Series(-np.log10(error.clip(lower=1e-16)), rows.index)
