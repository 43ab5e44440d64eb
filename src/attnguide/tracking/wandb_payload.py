"""What W&B is sent of a run: names, numbers, curves by step, rows of pictures, inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import pandas as pd
from PIL import Image

from attnguide.findings import Findings, ShownPicture, judgement
from attnguide.viz.overlay import overlay
from attnguide.viz.style import method_label

QUANTITIES = {"accuracy": "correct", "probability": "probability"}
VALUES = ("auc", "value")
NUMBERS = (*VALUES, "ci_low", "ci_high", "n")
INTERVAL = {"ci_low": "low", "ci_high": "high", "n": "n"}
SAMPLE_IMAGES, SAMPLE_ROWS = 20, 2000
SHOWN_COLUMNS = ("label", "prediction", "probability", "logit")
DATA_SETTINGS = ("name", "root", "list", "seed", "num_images")  # what chooses the pictures
MAX_NAME, MAX_TAG, MAX_ALERT = 128, 64, 300  # characters


def display_name(config: Mapping[str, Any], shard: int | None = None) -> str:
    """A name for people: experiment, models, methods, and the share where there are several."""
    methods = list(config.get("method") or {})
    listed = ", ".join(methods[:3]) + (f" and {len(methods) - 3} more" if methods[3:] else "")
    part = "" if shard is None else f"shard {shard}"
    parts = (str(config.get("experiment")), ", ".join(_models(config)), listed, part)
    return " · ".join(part for part in parts if part)[:MAX_NAME]


def tags(given: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The user's, and what runs are looked for by; W&B takes 64 characters."""
    found = [*given, config.get("scale"), *(config.get("method") or {}), *_models(config)]
    return list(dict.fromkeys(str(tag)[:MAX_TAG] for tag in found if tag))


def as_filtered(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its methods as a list of names, by which runs can be filtered."""
    methods = config.get("method") or {}
    return {**config, "method": list(methods), "method_settings": dict(methods)}


def notes(findings: Findings) -> str:
    """Title, what the paper claims, and the verdicts, for the notes of a run."""
    verdicts = [
        f"- {row['claim']} ({row['model']}): {judgement(row)}"
        for row in findings.claims.to_dict("records")
    ]
    return "\n".join(part for part in (findings.title, findings.claim, *verdicts) if part)


def alert(config: Mapping[str, Any], error: Exception) -> tuple[str, str]:
    """Title and text of the message that a run has failed."""
    lines = str(error).splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}"[:MAX_ALERT]
    return f"{display_name(config)} failed"[:MAX_TAG], text


def _models(config: Mapping[str, Any]) -> list[str]:
    model = config.get("model") or {}
    name = model.get("name", []) if isinstance(model, Mapping) else model
    return [str(each) for each in (name if isinstance(name, list | tuple) else [name]) if each]


def scalars(summary: pd.DataFrame) -> dict[str, float]:
    """Every mean of a summary by its name, with the ends of its interval and n behind it.

    `auc/<order>_<quantity>/<method>` for areas, `measure/<measure>/<method>` for shares and rates;
    other columns that tell lines apart come in between, `/low`, `/high` and `/n` last.
    """
    value = next((name for name in VALUES if name in summary), None)
    if value is None:
        return {}
    named = ("order", "quantity", "measure", "method")
    constant = [name for name in summary if summary[name].nunique() < 2]
    other = [n for n in summary if n not in (*NUMBERS, *named) and n not in constant]
    found = {}
    for line in summary.to_dict("records"):
        kinds = [line[n] for n in ("order", "quantity", "measure") if n in line]
        what = "_".join(str(kind) for kind in kinds if pd.notna(kind) and kind != "")
        parts = [what, *(str(line[name]) for name in other), str(line.get("method", ""))]
        kind = "auc" if value == "auc" else "measure"
        name = "/".join(part for part in (kind, *parts) if part)
        found[name] = float(line[value])
        found |= {f"{name}/{end}": float(line[c]) for c, end in INTERVAL.items() if c in line}
    return found


def claim_scalars(claims: pd.DataFrame) -> dict[str, float | str]:
    """Every claim by its words: value, interval, n and verdict; and how many verdicts of a kind.

    Names are `claim/<claim>/<what>`, with the model in between where there are several.
    """
    found: dict[str, float | str] = {}
    several = len(claims) and claims["model"].nunique() > 1
    for row in claims.to_dict("records"):
        words = (
            str(row["claim"]).strip(".").replace(".", "·").replace("/", " ")
        )  # W&B nests names at these
        name = "/".join(["claim", *([str(row["model"])] if several else []), words])
        found |= {f"{name}/{what}": float(row[what]) for what in ("value", "low", "high", "n")}
        found[f"{name}/verdict"] = str(row["verdict"])
    for verdict, count in claims["verdict"].value_counts().items():
        found[f"claims/{verdict}"] = int(count)
    return found


def inputs(
    config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and description of the weights and of the data set, for the lineage of a run.

    The same name and checksum in two runs are the same version of the same artifact.
    """
    for model, checksum in (provenance.get("weights_sha256") or {}).items():
        yield f"weights-{_slug(model)}", "model", {"model": model, "sha256": checksum}
    data = config.get("data")
    if data:
        about = {name: data.get(name) for name in DATA_SETTINGS}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
        about["sha256"] = provenance.get("data_sha256") or f"of the settings: {digest}"
        yield f"data-{_slug(about['name'])}", "dataset", about


def _slug(name: Any) -> str:
    return re.sub(r"[^\w.-]", "-", str(name))[:100]


def image_table(
    viewer: Sequence[ShownPicture], rows: pd.DataFrame | None
) -> tuple[list[Any], list[list[Any]]]:
    """Columns and lines of the table of pictures: each with its overlays, prediction and numbers.

    Pictures are arrays or PIL pictures; a method that a picture lacks leaves its place empty.

    Args:
        viewer: Pictures with maps; the first `SAMPLE_IMAGES` are taken.
        rows: Of the run, for the prediction and its numbers; None where there are none.
    """
    shown = list(viewer)[:SAMPLE_IMAGES]
    methods = list(dict.fromkeys(name for one in shown for name in one.maps))
    facts = list(dict.fromkeys(name for one in shown for name in one.facts))
    known = [c for c in SHOWN_COLUMNS if rows is not None and c in rows and c not in facts]
    columns: list[Any] = ["image_id", "title", "picture", *map(method_label, methods)]
    columns += [f"{method_label(m)}: numbers" for m in methods] + facts + known
    lines = []
    for one in shown:
        picture = Image.open(BytesIO(one.png)).convert("RGB")
        mixed = [
            (255 * overlay(picture, one.maps[m])).round().astype("uint8") if m in one.maps else None
            for m in methods
        ]
        noted = [one.notes.get(method, "") for method in methods]
        line = [one.id, one.title, picture, *mixed, *noted, *(one.facts.get(f) for f in facts)]
        lines.append([*line, *_measured(one, rows, known)])
    return columns, lines


def _measured(one: ShownPicture, rows: pd.DataFrame | None, known: Sequence[str]) -> list[Any]:
    """What the first row of the picture, and of its target if that is known, says."""
    if rows is None or not known:
        return []
    own = rows[rows["image_id"] == one.id]
    if "target" in one.facts and "target" in own:
        own = own[own["target"] == one.facts["target"]]
    lines = own[list(known)].astype(object).to_dict("records")
    first = lines[0] if lines else {}
    return [None if pd.isna(first.get(name)) else first[name] for name in known]


def curves(rows: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Mean perturbation curves, in percent: all of one fraction at a time.

    Names are `curve/<order>_<quantity>/<method>`, with model and guide in between where there are
    several; nothing where the rows are not of a perturbation study.
    """
    if not {"fraction", "order", "method", *QUANTITIES.values()} <= set(rows):
        return
    several = [n for n in ("model", "guide") if n in rows and rows[n].nunique() > 1]
    names = ["order", *several, "method"]
    means = 100 * rows.groupby(["fraction", *names])[list(QUANTITIES.values())].mean()
    for fraction, part in means.groupby(level="fraction"):
        step = {"fraction": float(str(fraction))}
        for (_, order, *rest), values in zip(part.index.tolist(), part.to_numpy(), strict=True):
            for quantity, value in zip(QUANTITIES, values, strict=True):
                step["/".join(["curve", f"{order}_{quantity}", *map(str, rest)])] = float(value)
        yield step


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows of a few images, the same few in every run; without raw maps."""
    ids = sorted(rows["image_id"].unique(), key=_rank)[:SAMPLE_IMAGES]
    plain = [name for name in rows if not isinstance(rows[name].iloc[0], bytes)]
    return rows.loc[rows["image_id"].isin(ids), plain].head(SAMPLE_ROWS).reset_index(drop=True)


def _rank(image_id: str) -> str:
    return hashlib.sha256(str(image_id).encode()).hexdigest()
