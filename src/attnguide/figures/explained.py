"""Explained pictures of the user's own: a panel for each, an overview, sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from attnguide.figures.experiment import Stored
from attnguide.guides import NO_LAYOUT
from attnguide.store.maps import relevance_of
from attnguide.viz.panels import Panel, draw_panels, short_name
from attnguide.viz.style import method_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_ROW, BLOCK_WIDTH = 8, 5  # panels
Explained: TypeAlias = tuple[str, pd.DataFrame]  # id of a picture, and its rows


def one_per_class(pictures: Sequence[Explained], count: int) -> list[Explained]:
    """Up to `count` pictures in their order: the first of each class, then the second, and so on.

    The class is the label, or the target where there is none.
    """
    seen: Counter[str] = Counter()
    turns = []
    for place, (_, rows) in enumerate(pictures):
        name = str(rows["label_name"].iloc[0] or rows["target_name"].iloc[0])
        turns.append((seen[name], place))
        seen[name] += 1
    return [pictures[place] for place in sorted(place for _, place in sorted(turns)[:count])]


def draw_alone(stored: Stored, name: str, part: pd.DataFrame) -> Figure:
    """One picture: a row, or a block where the methods are many."""
    titles = ["image", *map(method_label, part["method"])]
    panels = [
        replace(panel, title=title)
        for panel, title in zip(_panels(stored, part), titles, strict=True)
    ]
    wide = len(panels) if len(panels) <= LONGEST_ROW else BLOCK_WIDTH
    return draw_panels([panels[n : n + wide] for n in range(0, len(panels), wide)], title=name)


def draw_overview(stored: Stored, pictures: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Several panels in one figure, two beside each other where the methods are few."""
    methods = pictures[0][1]["method"]
    if len(pictures) == 1:
        return draw_alone(stored, *pictures[0])
    beside = min(len(pictures), 2 if len(methods) <= 2 else 1)
    panels = [
        [replace(first, title=name), *others]
        for name, part in pictures
        for first, *others in [_panels(stored, part)]
    ]
    rows = [list(chain(*panels[start : start + beside])) for start in range(0, len(panels), beside)]
    return draw_panels(rows, column_titles=["image", *map(method_label, methods)] * beside)


def _panels(stored: Stored, part: pd.DataFrame) -> list[Panel]:
    first: Any = next(part.itertuples())
    picture = stored.picture(first.image_id)
    label = f"label: {short_name(first.label_name)}\n" if first.label_name else ""
    seen = f"{short_name(first.prediction_name)} {first.prediction_probability:.2f}"
    panels = [Panel(picture, note=f"{label}predicted: {seen}")]
    row: Any
    for row in part.itertuples():
        note = f"{short_name(row.target_name)} {row.probability:.2f}\nred {row.positive_share:.0%}"
        panels.append(Panel(picture, relevance_of(row), note=note))
    return panels


def is_guided(stored: Stored) -> bool:
    """Whether the pictures are beside a guide."""
    return (stored.config.get("guide") or {}).get("layout", NO_LAYOUT) != NO_LAYOUT


def sentences(stored: Stored, rows: pd.DataFrame) -> Iterator[str]:
    """How many pictures were explained, how often the model is right, how much is positive."""
    methods, skipped = stored.methods, stored.provenance.get("skipped", [])
    beside = "Beside the guide, the" if is_guided(stored) else "The"
    pictures = rows.drop_duplicates("image_id")
    yield f"{len(pictures)} pictures were explained with {', '.join(map(method_label, methods))}."
    if skipped:
        more = ", ..." if len(skipped) > 10 else ""
        yield f"Skipped, because unreadable ({len(skipped)}): {', '.join(skipped[:10])}{more}."
    labelled = pictures[pictures["label"].notna()]
    if len(labelled):
        right = int((labelled["label"] == labelled["prediction"]).sum())
        yield f"{beside} model predicts the label in {right} of {len(labelled)} with a label."
    for method in methods:
        share = rows.loc[rows["method"] == method, "positive_share"]
        yield (
            f"With {method_label(method)}, {share.median():.0%} of the relevance is positive in "
            f"the median picture (from {share.min():.0%} to {share.max():.0%})."
        )
