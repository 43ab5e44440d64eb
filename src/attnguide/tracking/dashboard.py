"""A W&B dashboard as code: panels for what is sent, under the names of `wandb_payload`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from attnguide.errors import InputError
from attnguide.store.files import write_atomic
from attnguide.tracking.loggers import WandB
from attnguide.tracking.wandb_run import why_offline

ORDERS = {
    "negative": ("least relevant first", "higher is better"),
    "positive": ("most relevant first", "lower is better"),
}
CURVES = {"curve": "", "curve_alone": ", without the guide"}
QUANTITIES = {"accuracy": "recognised (%)", "probability": "probability of the label (%)"}
LOCALISATION = (
    "sign right on the target",
    "both signs right",
    "positive mass on the target",
    "positive mass on the background",
    "net positive on the object",
    "positive share of the object's mass",
)


def build(settings: WandB, methods: Sequence[str], models: Sequence[str]) -> Any:
    """The workspace, not saved yet; needs neither key nor network.

    Args:
        settings: Entity and project.
        methods: Whose bars are drawn; the curves show all that were logged.
        models: With several, bars of each; runs of one model each are grouped by model.

    Raises:
        ValueError: no entity; or the extra is not installed.
    """
    if settings.entity is None:
        raise InputError("a dashboard belongs to a W&B user or team; pass logger.entity=NAME")
    panels, spaces = _library()
    inside = [f"{model}/" for model in models] if len(models) > 1 else [""]
    grouped = panels.Config("model.name") if len(models) == 1 else None

    def bars(title: str, kind: str, label: str, names: Sequence[str]) -> Any:
        metrics = [f"{kind}/{model}{method}" for model in inside for method in names]
        return panels.BarPlot(title=title, metrics=metrics, groupby=grouped, title_x=label)

    curves, areas = [], []
    for quantity, unit in QUANTITIES.items():
        for order, (first, better) in ORDERS.items():
            kind, title = f"{order}_{quantity}", f"{order.capitalize()}, {quantity}: {first}"
            axes = {"x": "fraction", "title_x": "share of the patches filled", "title_y": unit}
            curves += [
                panels.LinePlot(title=f"{title}, {better}{where}", range_y=(0, 100),
                                metric_regex=f"{begin}/{kind}/.*", **axes)
                for begin, where in CURVES.items()
            ]  # fmt: skip
            title = f"AUC, {order} {quantity}: {better}"
            areas.append(bars(title, f"auc/{kind}", "AUC (%)", [*methods, "random"]))
    rate = {"x": "progress/images", "metric_regex": "progress/.*_per_second"}
    sections = {
        "Claims": [
            panels.WeavePanelSummaryTable(table_name="table/claims"),
            panels.MediaBrowser(title="Report", media_keys=["report"]),
        ],
        "Perturbation curves": curves,
        "AUC by method and model": areas,
        "Localisation": [
            bars(name.capitalize(), f"measure/{name}", "share", methods) for name in LOCALISATION
        ],
        "Figures": [panels.MediaBrowser(title="Figures", media_keys=["figure/figure"])],
        "Progress": [panels.LinePlot(title="Images per second", **rate)],
    }
    return spaces.Workspace(
        entity=settings.entity,
        project=settings.project,
        name="Attention and gradient",
        sections=[
            spaces.Section(name=name, panels=drawn, is_open=True)
            for name, drawn in sections.items()
        ],
    )


def _library() -> tuple[Any, Any]:
    """The modules of panels and of workspaces."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its models are written for an older pydantic
            names = ("wandb_workspaces.reports.v2", "wandb_workspaces.workspaces")
            return import_module(names[0]), import_module(names[1])
    except ImportError:
        raise InputError(
            "a dashboard needs wandb-workspaces; pip install 'attnguide[dashboard]'"
        ) from None


def publish(workspace: Any, settings: WandB, folder: Path) -> str:
    """Store `dashboard.json`, send it to W&B where there is a key, and say what was done."""
    path = folder / "dashboard.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, TypeAdapter(type(workspace)).dump_json(workspace, indent=2) + b"\n")
    offline = "offline" in (settings.mode, os.environ.get("WANDB_MODE"))
    why = "W&B is set offline" if offline else why_offline()
    if not why:
        try:
            workspace.save()
            return f"Dashboard  {workspace.url}\nDefinition {path}"
        except Exception as error:
            why = f"W&B is out of reach ({error})"
    return (
        f"{why}, so the dashboard is only defined: {path}\n"
        "With key and network the same command makes it."
    )
