"""Figures made of maps: where the relevance lies, measured on many pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from attnguide.data.case import Case, Cases
from attnguide.data.find import find_pictures
from attnguide.data.named_pictures import check_pictures
from attnguide.data.views import View
from attnguide.evaluation.map_study import map_rows
from attnguide.runs.job import Job
from attnguide.store.table import Results, read
from attnguide.types import ViT

KEY = ("image_id", "model", "view", "method", "target")


def check_choice(
    job: Job, pictures: Sequence[Mapping[str, Any]], classes: int | None = None
) -> None:
    """The user's pictures and the data, before any weights are loaded.

    Raises:
        ValueError, FileNotFoundError: as `check_pictures` and `find_pictures`.
    """
    check_pictures(pictures, classes)
    find_pictures(job.data.name, job.data.root, num_images=job.data.num_images)


def read_rows(run_dir: Path, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """The measured rows in the order of the run's methods, and these.

    Raises:
        FileNotFoundError: nothing measured yet.
    """
    rows = read(run_dir)
    methods = [name for name in settings["method"] if name in set(rows["method"])]
    order = rows["method"].map({name: number for number, name in enumerate(methods)})
    return rows.iloc[order.argsort(kind="stable")].reset_index(drop=True), methods


def measure(
    job: Job,
    vit: ViT,
    cases: Cases,
    look: Callable[[Case], Sequence[View]],
    results: Results,
    *,
    rivals: int = 0,
    limits: Mapping[str, int] | None = None,
) -> None:
    """Rows of every case that has none yet.

    Args:
        job: Methods, loss, batch size.
        vit: The model.
        cases: What is measured.
        look: Case to its views.
        results: Open table with the columns `KEY`.
        rivals: As in `explain_views`.
        limits: On how many of the first cases a slow method is measured, by its name.
    """
    from attnguide.runs.predict import predict  # Lightning takes seconds, drawing needs none

    first = {name: set(cases.ids[:count]) for name, count in (limits or {}).items()}

    def step(batch: Sequence[Case]) -> pd.DataFrame:
        groups: dict[tuple[str, ...], list[View]] = {}
        for case in batch:
            chosen = [m for m in job.methods if m not in first or case.id in first[m]]
            groups.setdefault(tuple(chosen), []).extend(look(case))
        return pd.concat(
            [
                map_rows(
                    vit,
                    views[start : start + job.batch_size],
                    {name: job.methods[name] for name in chosen},
                    loss=job.loss,
                    rivals=rivals,
                )
                for chosen, views in groups.items()
                for start in range(0, len(views), job.batch_size)
            ],
            ignore_index=True,
        )

    predict(job, vit, step, cases, results)
    if cases.note:
        job.console.print(f"{vit.name}: {cases.note}")
