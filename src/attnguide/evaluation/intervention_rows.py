"""Interventions in numbers: attention descended (Figure 6) and pictures rewritten (Figure 11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from attnguide.data.views import View
from attnguide.evaluation.localisation import column, correlation, regions, relevance_by_region
from attnguide.evaluation.rows import number_of, row_of
from attnguide.interventions.attention_descent import Descent
from attnguide.interventions.pixel_rewrite import Rewriting
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
    map, in [-1, 1]; `like_own` is the correlation of the first map with the model's own.

    Args:
        vit: Names the classes.
        views: With two targets each: the one that is descended, and the other.
        shown: Of each view; rows of those that are hold the map too.
        found: Of these views.
        own: The complete correction of the model as it is.
        lr: Learning rate of the descent.
    """
    rows = []
    for index, view in enumerate(views):
        target, other = view.targets[:2]
        like = correlation(found.relevance[0, index].cpu(), own.relevance[index].cpu())
        for step, logits in enumerate(found.logits[:, index].cpu()):
            mass = relevance_by_region(found.relevance[step, index].cpu(), regions(view.objects, 0))
            size = (mass["positive"] + mass["negative"]) or np.nan
            kept = found.relevance[step, index] if shown[index] else None
            rows.append(
                row_of(vit, view, target, relevance=kept)
                | {
                    "step": step,
                    "regions": view.regions,
                    "other": other,
                    "other_name": vit.class_names[other],
                    "logit_target": float(logits[target]),
                    "logit_other": float(logits[other]),
                    "prediction": int(logits.argmax()),
                    "share_target": (mass["positive_target"] - mass["negative_target"]) / size,
                    "share_other": (mass["positive_other"] - mass["negative_other"]) / size,
                    "row_error": float(found.row_error[step, index]),
                    "negative_entries": float(found.negative[step, index]),
                    "like_own": like,
                    "lr": lr,
                    "view": f"{lr:g}-{step}",
                }
            )
    return pd.DataFrame(rows)


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
    """The last step of every picture and rate, with what has changed since the first."""
    rows = rows.assign(crossed=crossed(rows))
    last, first = rows["step"] == rows["step"].max(), rows["step"] == 0
    key = pd.MultiIndex.from_frame(rows[DESCENT])
    start = rows[first].set_index(DESCENT).reindex(key).set_axis(rows.index)
    change = {
        f"{what}_change": rows[what] - start[what]
        for what in ("logit_target", "logit_other", "share_target", "share_other")
    }
    at = rows["step"].where(rows["crossed"] == 1).groupby([rows[name] for name in DESCENT])
    return rows.assign(
        at=at.transform("min"),
        begins=(start["share_target"] > start["share_other"]).astype(float),
        is_other=(rows["prediction"] == rows["other"]).astype(float),
        lr=rows["lr"].map("{:g}".format),
        **change,
    )[last]


MEASURES = {
    "begins on the target": column("begins", "answers"),
    "crossed, of those that begin there": column("crossed", "answers"),
    "step of crossing": column("at", "mean"),
    "change of the target's logit": column("logit_target_change", "mean"),
    "change of the other's logit": column("logit_other_change", "mean"),
    "change of the target's share": column("share_target_change", "mean"),
    "change of the other's share": column("share_other_change", "mean"),
    "top-1 is the other": column("is_other", "answers"),
    "largest row-sum error": column("row_error"),
    "share of entries below 0": column("negative_entries"),
    "correlation of the first map with the model's own": column("like_own", "mean"),
}


def goal_of(vit: ViT, view: View) -> int:
    """The class to reach: the second target, or one other than the first that the id picks."""
    if len(view.targets) > 1:
        return view.targets[1]
    others = len(vit.class_names) - 1
    return (view.targets[0] + 1 + number_of(view.id, others)) % (others + 1)


def rewrite_rows(vit: ViT, ids: Sequence[str], done: Rewriting) -> pd.DataFrame:
    """One row per picture: classes, whether the goal is read, how large the change is."""
    after = done.after.double().softmax(-1).cpu()
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
    share = 100 * logits.double().softmax(-1)
    best = logits.argsort(descending=True)[:3].tolist()
    names = [vit.class_names[i].split(",")[0] for i in best]
    return "\n".join(
        f"{name} {share[i]:.1f} % ({logits[i]:.2f})" for i, name in zip(best, names, strict=True)
    )
