"""Interventions in numbers: attention descended (Figure 6) and pictures rewritten (Figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation.localisation import column, correlation, regions, relevance_by_region
from attnguide.evaluation.rows import first_targets, number_of, row_of
from attnguide.interventions.attention_descent import Descent
from attnguide.interventions.pixel_rewrite import Rewriting, rewrite
from attnguide.types import Explanation, ViT

DESCENT = ["image_id", "model", "lr"]  # columns that tell descents apart


def transfer_rows(
    vit: ViT,
    views: Sequence[View],
    shown: Sequence[bool],
    found: Descent,
    own: Explanation,
    lr: float,
) -> pd.DataFrame:
    """One row per picture and step.

    `share_target` and `share_other` are the signed mass on an object over the mass of the whole
    map, in [-1, 1]; `like_own` is the correlation of the first map with the model's own. At the
    first and the last step the map of the other class's logit is measured too: `others_share` is
    its signed share on the other object, `overlap` its correlation with the target's map.

    Args:
        vit: Names the classes.
        views: With two targets each: the one that is descended, and the other.
        shown: Of each view; rows of those that are hold the map too.
        found: Of these views, with the maps of the other class.
        own: The complete correction of the model as it is.
        lr: Learning rate of the descent.
    """
    assert found.other is not None
    maps, others = found.relevance.cpu(), found.other.cpu()
    last = len(maps) - 1
    rows = []
    for index, view in enumerate(views):
        target, other = view.targets[:2]
        where = regions(view.objects, 0)
        like = correlation(maps[0, index], own.relevance[index].cpu())
        for step, logits in enumerate(found.logits[:, index].cpu()):
            relevance = maps[step, index]
            kept = relevance if shown[index] else None
            on_target, on_other = _signed_shares(relevance, where)
            row = row_of(vit, view, target, relevance=kept) | {
                "step": step,
                "regions": view.regions,
                "other": other,
                "other_name": vit.class_names[other],
                "logit_target": float(logits[target]),
                "logit_other": float(logits[other]),
                "prediction": int(logits.argmax()),
                "share_target": on_target,
                "share_other": on_other,
                "others_share": np.nan,
                "overlap": np.nan,
                "row_error": float(found.row_error[step, index]),
                "negative_entries": float(found.negative[step, index]),
                "like_own": like,
                "lr": lr,
                "view": f"{lr:g}-{step}",
            }
            if step in (0, last):
                of_other = others[int(step == last), index]
                row["others_share"] = _signed_shares(of_other, where)[1]
                row["overlap"] = correlation(of_other, relevance)
            rows.append(row)
    return pd.DataFrame(rows)


def _signed_shares(relevance: Tensor, where: dict[str, np.ndarray]) -> tuple[float, float]:
    """Signed mass on the target and on the other object, over the mass of the whole map."""
    mass = relevance_by_region(relevance, where)
    size = (mass["positive"] + mass["negative"]) or np.nan
    target, other = (
        (mass[f"positive_{region}"] - mass[f"negative_{region}"]) / size
        for region in ("target", "other")
    )
    return target, other


def crossed(rows: pd.DataFrame) -> pd.Series[float]:
    """1 from the first step on at which the other's signed share exceeds the target's, else 0.

    NaN for pictures whose attention does not begin on the target, or whose objects are not known.
    """
    ahead = (rows["share_other"] > rows["share_target"]).astype(float)
    ahead = ahead.where(rows["share_other"].notna() & rows["share_target"].notna())
    series = [rows[name] for name in DESCENT]
    order = rows["step"].sort_values(kind="stable").index
    since = ahead.loc[order].groupby([one.loc[order] for one in series]).cummax()
    begins = ahead.where(rows["step"] == 0).groupby(series).transform("max")
    return since.reindex(rows.index).where(begins == 0)


def last_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """The last step of every picture and rate, with what has changed since the first.

    And with what has changed at the flip: the first step at which the other's logit exceeds the
    target's; NaN for pictures where it does from the start, or at no step.
    """
    rows = rows.assign(crossed=crossed(rows))
    key = pd.MultiIndex.from_frame(rows[DESCENT])
    ahead = rows["logit_other"] > rows["logit_target"]
    flip = rows["step"].where(ahead).groupby([rows[name] for name in DESCENT]).transform("min")
    start = rows[rows["step"] == 0].set_index(DESCENT)
    at_flip = rows[(rows["step"] == flip) & (flip > 0)].set_index(DESCENT)
    change = {}
    for what in ("logit_target", "logit_other", "share_target", "share_other"):
        before = start[what].reindex(key).to_numpy()
        change[f"{what}_change"] = rows[what] - before
        change[f"{what}_flip"] = at_flip[what].reindex(key).to_numpy() - before
    steps = rows["step"].where(rows["crossed"] == 1)
    begins = (start["share_target"] > start["share_other"]).astype(float)
    rows = rows.assign(
        **change,
        at=steps.groupby([rows[name] for name in DESCENT]).transform("min"),
        begins=begins.reindex(key).to_numpy(),
        flips=(flip > 0).astype(float).where(flip != 0),
        crossed_flip=at_flip["crossed"].reindex(key).to_numpy(),
        is_other=(rows["prediction"] == rows["other"]).astype(float),
        others_stays=(rows["others_share"] > 0).astype(float).where(rows["others_share"].notna()),
    )
    return rows[rows["step"] == rows["step"].max()].assign(lr=rows["lr"].map("{:g}".format))


MEASURES = {
    "begins on the target": column("begins", "answers"),
    "crossed, of those that begin there": column("crossed", "answers"),
    "step of crossing": column("at"),
    "change of the target's logit": column("logit_target_change"),
    "change of the other's logit": column("logit_other_change"),
    "change of the target's share": column("share_target_change"),
    "change of the other's share": column("share_other_change"),
    "decision flips": column("flips", "answers"),
    "crossed, of those that begin there, at the flip": column("crossed_flip", "answers"),
    "change of the target's share, at the flip": column("share_target_flip"),
    "change of the other's share, at the flip": column("share_other_flip"),
    "top-1 is the other": column("is_other", "answers"),
    "the other's map is net positive on the other": column("others_stays", "answers"),
    "correlation of the maps of both classes": column("overlap"),
    "largest row-sum error": column("row_error"),
    "share of entries below 0": column("negative_entries", "share"),
    "correlation of the first map with the model's own": column("like_own"),
}


def goal_of(vit: ViT, view: View) -> int:
    """The class to reach: the second target, or one other than the first that the id picks."""
    if len(view.targets) > 1:
        return view.targets[1]
    others = len(vit.class_names) - 1
    return (view.targets[0] + 1 + number_of(view.id, others)) % (others + 1)


def rewrite_views(vit: ViT, views: Sequence[View], **settings: Any) -> Rewriting:
    """Views rewritten to their second target, or else to the class that their id picks.

    Args:
        vit: The model.
        views: With one or two targets.
        settings: As in `rewrite`.
    """
    images, source = first_targets(views)
    goal = torch.tensor([goal_of(vit, view) for view in views])
    return rewrite(vit, images, source, goal, **settings)


def amplified(original: NDArray[np.uint8], updated: NDArray[np.uint8]) -> tuple[Any, int]:
    """(H, W, 3) difference around grey, so large that 99 % of it can be seen; and the factor."""
    change = updated.astype(int) - original
    factor = max(1, int(127 // max(1, np.quantile(np.abs(change), 0.99))))
    return (127.5 + factor * change).clip(0, 255).astype(np.uint8), factor


def noise(rows: pd.DataFrame) -> pd.Series[float]:
    """Peak signal-to-noise ratio in dB; NaN of a picture that did not change."""
    return rows["psnr"].where(np.isfinite(rows["psnr"]))


def rewrite_rows(vit: ViT, ids: Sequence[str], done: Rewriting) -> pd.DataFrame:
    """One row per picture: classes, whether the goal is read, how large the change is."""
    after = vit.probabilities(done.after.double()).cpu()
    goal = done.goal.cpu()
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "source": done.source.tolist(),
            "goal": goal.tolist(),
            "source_name": [vit.class_names[i] for i in done.source],
            "goal_name": [vit.class_names[i] for i in goal],
            "flipped": done.flipped.tolist(),
            "goal_probability": after.gather(1, goal[:, None])[:, 0],
            "steps": done.steps.tolist(),
            "psnr": done.psnr.tolist(),
            "largest": done.largest.tolist(),
            "before": [best_classes(vit, row) for row in done.before],
            "after": [best_classes(vit, row) for row in done.after],
        }
    )


def best_classes(vit: ViT, logits: Tensor) -> str:
    """Lines "class 93.8 % (12.93)" of the three most probable classes."""
    share = 100 * vit.probabilities(logits.double())
    best = logits.argsort(descending=True)[:3].tolist()
    names = [vit.class_names[i].split(",")[0] for i in best]
    return "\n".join(
        f"{name} {share[i]:.1f} % ({logits[i]:.2f})" for i, name in zip(best, names, strict=True)
    )
