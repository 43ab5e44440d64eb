"""A W&B dashboard as code: panels for what is sent, under the names of `wandb_payload`."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from attnguide.errors import InputError
from attnguide.store.files import write_atomic
from attnguide.tracking.loggers import WandB
from attnguide.tracking.wandb_run import has_key

ORDERS = {
    "negative": "least relevant first, higher is better",
    "positive": "most relevant first, lower is better",
}
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
    panels, spaces = _load()
    sections = {
        "Perturbation curves": _curves(panels),
        "AUC by method and model": _bars(panels, _areas(methods, models), "AUC (%)", models),
        "Localisation": _bars(panels, _shares(methods, models), "share", models),
        "Figures": [panels.MediaBrowser(title="Figures", media_keys=["figure/figure"])],
        "Progress": [
            panels.LinePlot(
                title="Images per second",
                x="progress/images",
                metric_regex="progress/.*_per_second",
            )
        ],
    }
    return spaces.Workspace(
        entity=settings.entity,
        project=settings.project,
        name="Attention and gradient",
        sections=[
            spaces.Section(name=name, panels=own, is_open=True) for name, own in sections.items()
        ],
    )


def _load() -> tuple[Any, Any]:
    """The modules of panels and workspaces."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its models are written for an older pydantic
            panels = import_module("wandb_workspaces.reports.v2")
            return panels, import_module("wandb_workspaces.workspaces")
    except ImportError:
        raise InputError(
            "a dashboard needs wandb-workspaces; pip install 'attnguide[dashboard]'"
        ) from None


def _curves(panels: Any) -> list[Any]:
    return [
        panels.LinePlot(
            title=f"{order.capitalize()}, {quantity}: {hint}",
            x="fraction",
            metric_regex=f"curve/{order}_{quantity}/.*",
            title_x="share of the patches filled",
            title_y=label,
            range_y=(0, 100),
        )
        for quantity, label in QUANTITIES.items()
        for order, hint in ORDERS.items()
    ]


def _areas(methods: Sequence[str], models: Sequence[str]) -> dict[str, list[str]]:
    """Names of the numbers of each panel, by its title."""
    return {
        f"AUC, {order} {quantity}: {hint.split(', ')[1]}": _each(
            f"auc/{order}_{quantity}", models, [*methods, "random"]
        )
        for quantity in QUANTITIES
        for order, hint in ORDERS.items()
    }


def _shares(methods: Sequence[str], models: Sequence[str]) -> dict[str, list[str]]:
    return {name.capitalize(): _each(f"measure/{name}", models, methods) for name in LOCALISATION}


def _each(kind: str, models: Sequence[str], methods: Sequence[str]) -> list[str]:
    inside = [f"{model}/" for model in models] if len(models) > 1 else [""]
    return [f"{kind}/{model}{method}" for model in inside for method in methods]


def _bars(
    panels: Any, names: Mapping[str, list[str]], label: str, models: Sequence[str]
) -> list[Any]:
    grouped = panels.Config("model.name") if len(models) == 1 else None
    return [
        panels.BarPlot(title=title, metrics=own, groupby=grouped, title_x=label)
        for title, own in names.items()
    ]


def definition(workspace: Any) -> dict[str, Any]:
    """The workspace as W&B stores it, plain values."""
    model = workspace._to_model()  # the only way without a login
    values: dict[str, Any] = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    return values


def publish(workspace: Any, settings: WandB, folder: Path) -> str:
    """Store `dashboard.json`, send it to W&B where there is a key, and say what was done."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dashboard.json"
    write_atomic(path, (json.dumps(definition(workspace), indent=2) + "\n").encode())
    offline = "offline" in (settings.mode, os.environ.get("WANDB_MODE"))
    why = "W&B is set offline" if offline else "W&B has no key here"
    if not offline and has_key():
        try:
            workspace.save()
            return f"Dashboard  {workspace.url}\nDefinition {path}"
        except Exception as error:
            why = f"W&B is out of reach ({error})"
    return (
        f"{why}, so the dashboard is only defined: {path}\n"
        "With key and network the same command makes it."
    )
