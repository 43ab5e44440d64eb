"""A perturbation study: rows of a batch, and from rows to areas with intervals and differences.

A row is of one image, method, order and fraction. Areas are in percent, one per image, so that
their mean has a bootstrap interval, of hits too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.api import Target, explain_many
from attnguide.errors import InputError
from attnguide.evaluation.engines import Engine, MaskedModel, prepare
from attnguide.evaluation.fills import seed_of_name
from attnguide.evaluation.metrics import abpc, area_under_curve, auc_chefer, srg
from attnguide.evaluation.perturbation import (
    FRACTIONS,
    ORDERS,
    PerturbationCurve,
    masked_counts,
    perturb_many,
    rank_patches,
    require_finite,
)
from attnguide.evaluation.statistics import Kind, estimate, measured_rows, units_of
from attnguide.losses import Loss, loss_name
from attnguide.types import ViT

RANDOM, SEAM = "random", "seam"
CONTROLS = (SEAM, RANDOM)  # orders that know nothing of the picture; the former knows the guide
KINDS = ("prediction", "correct", "probability", "logit")
QUANTITIES = {"accuracy": "correct", "probability": "probability"}
BOTH_ORDERS = {"srg": ("accuracy", srg), "abpc": ("probability", abpc)}


def perturbation_rows(
    vit: ViT,
    images: Tensor,
    names: Sequence[str],
    label: Tensor,
    *,
    methods: Mapping[str, Any],
    target: Target = "label",
    loss: str | Loss = "logit",
    reference: Target | None = None,
    fractions: Sequence[float] = FRACTIONS,
    fills: Sequence[str | float] = ("zero",),
    seed: int = 0,
    engine: Engine | MaskedModel | None = None,
    own: Tensor | None = None,
) -> pd.DataFrame:
    """Rows of `results.parquet` for one batch, a random order of patches included.

    Beside a guide there is also `seam`: all of the guide is less relevant than all of the picture,
    and within either the order is random. It knows where the guide is, and nothing of the picture.
    The device is waited for once, when all numbers leave it together.

    Args:
        vit: The model.
        images: (B, 3, H, W), normalised; (B, G, 3, H, W) beside several guides, of which the first
            is masked.
        names: B image ids; with the seed they fix the random order and the noise of a fill.
        label: (B,) class that is followed.
        methods: As `explain_many` takes them.
        target: Class that is explained; "label" for the label.
        loss, reference: As in `explain`.
        fractions, engine: As in `perturb`.
        fills: Several share the explanations.
        seed: Of the random order and of the noise of fill="linear".
        own: (rows, cols), 1 on the picture's own patches and 0 on the guide's, for `seam` and the
            share of masked patches that lie on the guide; None without a guide.

    Raises:
        ValueError: as `explain` and `perturb`; the same fill twice.
    """
    if not fills or len({str(fill) for fill in fills}) != len(fills):
        raise InputError(f"fills must be different ones, at least one, got {list(fills)}")
    label = label.to(vit.device, non_blocking=True)
    explained = label if isinstance(target, str) and target == "label" else target
    many = explain_many(vit, images, explained, methods=methods, loss=loss, reference=reference)
    maps = {name: explanation.relevance for name, explanation in many.items()}
    maps[RANDOM] = torch.stack([random_map(name, seed, vit.grid) for name in names])
    if own is not None:
        maps[SEAM] = maps[RANDOM] + own  # in [0, 1) on the guide, in [1, 2) on the picture
    images = images if images.ndim == 4 else images[:, 0]
    model = prepare(vit, engine)
    seeds = [seed_of_name(name, seed) for name in names]
    curves: dict[tuple[str, str, str], PerturbationCurve] = {}
    for fill in fills:
        found = perturb_many(
            vit, images, maps, label, fractions=fractions, fill=fill, engine=model, seeds=seeds,
            check_finite=False,
        )  # fmt: skip
        curves |= {(str(fill), *key): curve for key, curve in found.items()}
    classes = torch.stack([label, next(iter(many.values())).target.to(label.device)])
    numbers, fetched = _fetch(curves, classes)
    require_finite(numbers[KINDS.index("logit")])
    with model.running():
        model.check(images)
    table = _table(names, fetched, list(curves), numbers, fractions, loss_name(loss))
    if own is None:
        return table.assign(on_guide=np.nan)
    shares = {method: on_guide(each.cpu(), own, fractions) for method, each in maps.items()}
    return table.assign(on_guide=torch.cat([shares[m][o].flatten() for _, m, o in curves]).numpy())


def random_map(name: str, seed: int, grid: tuple[int, int]) -> Tensor:
    """(rows, cols) uniform numbers that depend on the image's name and the seed alone."""
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed_of_name(name, seed)))


def on_guide(relevance: Tensor, own: Tensor, fractions: Sequence[float]) -> dict[str, Tensor]:
    """By order (B, S): share of the masked patches that lie on the guide; NaN where none is masked.

    Args:
        relevance: (B, rows, cols).
        own: (rows, cols), 1 on the picture's own patches.
        fractions: Of the patches, S.
    """
    guide, found = 1 - own.flatten().double(), {}
    counts = torch.tensor(masked_counts(fractions, len(guide)))
    for order in ORDERS:
        masked = guide[rank_patches(relevance.flatten(1), order)].cumsum(-1)
        masked = torch.nn.functional.pad(masked, (1, 0))[:, counts]
        found[order] = masked / torch.where(counts > 0, counts, torch.nan)
    return found


def _fetch(curves: Mapping[Any, PerturbationCurve], classes: Tensor) -> tuple[Tensor, Any]:
    """Numbers (4, curves, B, S) and classes (2, B) on the CPU, in one transfer.

    Float64 holds every class index and float32 exactly.
    """
    numbers = torch.stack(
        [
            torch.stack([getattr(curve, kind).double() for curve in curves.values()])
            for kind in KINDS
        ]
    )
    flat = torch.cat([numbers.flatten(), classes.double().flatten()]).cpu()
    fetched = flat[: numbers.numel()].view(numbers.shape)
    return fetched, flat[numbers.numel() :].view(classes.shape).long().numpy()


def _table(
    names: Sequence[str],
    classes: Any,
    keys: Sequence[tuple[str, str, str]],
    numbers: Tensor,
    fractions: Sequence[float],
    loss: str,
) -> pd.DataFrame:
    """A row per curve, image and fraction."""
    curve, image, step = np.indices(numbers.shape[1:]).reshape(3, -1)
    fill, method, order = (
        np.array(column, dtype=object)[curve] for column in zip(*keys, strict=True)
    )
    prediction, correct, probability, logit = (kind.flatten().numpy() for kind in numbers)
    return pd.DataFrame(
        {
            "image_id": np.array(names, dtype=object)[image],
            "label": classes[0][image],
            "target": classes[1][image],
            "prediction": prediction.astype(np.int64),
            "fraction": np.array(fractions, dtype=np.float64)[step],
            "correct": correct.astype(bool),
            "probability": probability,
            "logit": logit,
            "method": method,
            "loss": loss,
            "order": order,
            "fill": fill,
        }
    )


def curves(rows: pd.DataFrame, quantity: str) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Fractions (S,), and one row of percent values (S columns) per image.

    Args:
        rows: Of one model, guide, method and order.
        quantity: "accuracy" or "probability".

    Raises:
        ValueError: an image that lacks a fraction.
    """
    table = rows.pivot(index="image_id", columns="fraction", values=QUANTITIES[quantity])
    if table.isna().to_numpy().any():
        broken = table.index[table.isna().any(axis=1)][0]
        raise InputError(f"image {broken!r} lacks fractions; resume the run to complete it")
    return table.columns.to_numpy(float), 100 * table.astype(float).sort_index()


def areas(rows: pd.DataFrame, quantity: str) -> pd.Series[float]:
    """Area under the curve in percent per image, of one model, guide, method and order."""
    fraction, table = curves(rows, quantity)
    area = area_under_curve(torch.tensor(fraction), torch.tensor(table.to_numpy()))
    return pd.Series(area.numpy(), table.index)


def scores(rows: pd.DataFrame, quantity: str, order: str = "") -> pd.Series[float]:
    """One number in percent per image, of one model, guide and method.

    Args:
        rows: Of both orders, where the quantity uses both.
        quantity: "accuracy" or "probability" for `areas`; "auc_chefer" for the undivided area of
            accuracy; "srg" (accuracy) or "abpc" (probability), which use both orders.
        order: "positive" or "negative"; empty for a quantity that uses both.

    Raises:
        ValueError: the two orders have other fractions.
    """
    if quantity in QUANTITIES:
        return areas(rows[rows["order"] == order], quantity)
    if quantity == "auc_chefer":
        fraction, table = curves(rows[rows["order"] == order], "accuracy")
        return pd.Series(auc_chefer(fraction, table.to_numpy()), table.index)
    followed, metric = BOTH_ORDERS[quantity]
    (fraction, least), (other, most) = (
        curves(rows[rows["order"] == each], followed) for each in ("negative", "positive")
    )
    if fraction.tolist() != other.tolist():
        raise InputError(
            f"{quantity} needs the same fractions in both orders, got {fraction.tolist()} and "
            f"{other.tolist()}"
        )
    images = least.index.intersection(most.index)
    found = metric(fraction, least.loc[images].to_numpy(), most.loc[images].to_numpy())
    return pd.Series(found, images)


def auc_table(rows: pd.DataFrame, methods: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """One line per model, method, order and quantity: its mean in percent with interval, and n.

    First the areas of accuracy and probability, then what published tables report: `auc_chefer`,
    `srg` and `abpc` of `scores`; `order` is empty where a quantity uses both.
    """
    rows = measured_rows(rows)
    units = units_of(rows)
    pairs = rows[["model", "order"]].drop_duplicates().to_numpy().tolist()
    asked = [(model, order, quantity) for model, order in pairs for quantity in QUANTITIES]
    asked += [(model, order, "auc_chefer") for model, order in pairs]
    for model, part in rows.groupby("model", sort=False):
        asked += [(model, "", each) for each in BOTH_ORDERS if part["order"].nunique() == 2]
    lines = []
    for model, order, quantity in asked:
        own = rows[rows["model"] == model]
        for method in methods:
            each = scores(own[own["method"] == method], quantity, order)
            kind: Kind = "share difference" if quantity in BOTH_ORDERS else "share"
            found = estimate(each, units, seed, kind=kind, yes=100)
            names = {"method": method, "order": order, "quantity": quantity}
            lines.append({**names, **found.as_row("auc"), "model": model})
    return pd.DataFrame(lines)


def paired_differences(
    rows: pd.DataFrame, first: str, others: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """AUC of `first` minus each other method on the same images, in percentage points."""
    rows = measured_rows(rows)
    units = units_of(rows)
    lines = []
    for (model, order), part in rows.groupby(["model", "order"], sort=False):
        for quantity in QUANTITIES:
            own = areas(part[part["method"] == first], quantity)
            for other in others:
                gap = own - areas(part[part["method"] == other], quantity)
                found = estimate(gap, units, seed, kind="share difference", yes=100).as_row("auc")
                names = {"difference": f"{first} minus {other}", "order": order}
                lines.append({**names, "quantity": quantity, **found, "model": model})
    return pd.DataFrame(lines)
