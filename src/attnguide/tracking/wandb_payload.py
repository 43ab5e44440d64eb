"""What W&B is sent of a run: names, numbers, curves by step, rows of pictures, inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from attnguide.findings import Findings, ShownPicture, judgement
from attnguide.store.maps import picture_file
from attnguide.viz.overlay import overlay
from attnguide.viz.style import method_label, render

QUANTITIES = {"accuracy": "correct", "probability": "probability"}
INTERVAL = {"ci_low": "low", "ci_high": "high", "n": "n"}
SAMPLE_IMAGES = 20
MEASURED = ("image_id", "target", "label", "prediction", "probability", "logit")
DATA_SETTINGS = ("name", "root", "list", "seed", "num_images")  # what chooses the pictures
MAX_NAME, MAX_TAG, MAX_ALERT = 128, 64, 300  # characters


def display_name(config: Mapping[str, Any], shard: int | None = None) -> str:
    """A name for people: experiment, models, methods, and the share where there are several."""
    methods = list(config.get("method") or {})
    listed = ", ".join(methods[:3]) + (f" and {len(methods) - 3} more" if methods[3:] else "")
    part = "" if shard is None else f"shard {shard}"
    parts = (str(config.get("experiment")), ", ".join(_models(config)), listed, part)
    return " · ".join(filter(None, parts))[:MAX_NAME]


def tags(given: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The user's, and what runs are looked for by; W&B takes 64 characters."""
    all_tags = [*given, config.get("scale"), *(config.get("method") or {}), *_models(config)]
    return list(dict.fromkeys(str(tag)[:MAX_TAG] for tag in all_tags if tag))


def as_filtered(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as runs are filtered by it: `rule: positive`, and methods as a list of names."""
    methods = config.get("method") or {}
    shown = {key: _named(value) for key, value in config.items()}
    return {**shown, "method": list(methods), "method_settings": dict(methods)}


def _named(value: Any) -> Any:
    """The name alone of a function that is chosen without settings."""
    if isinstance(value, Mapping) and set(value) == {"_target_", "_partial_"}:
        return str(value["_target_"]).split(".")[-1]
    return value


def notes(findings: Findings) -> str:
    """Title, what the paper claims, and the verdicts, for the notes of a run."""
    verdicts = [
        f"- {row['claim']} ({row['model']}): {judgement(row)}"
        for row in findings.claims.to_dict("records")
    ]
    return "\n".join(filter(None, (findings.title, findings.claim, *verdicts)))


def alert(config: Mapping[str, Any], error: Exception) -> tuple[str, str]:
    """Title and text of the message that a run has failed."""
    text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return f"{display_name(config)} failed"[:MAX_TAG], text[:MAX_ALERT]


def _models(config: Mapping[str, Any]) -> list[str]:
    names = (config.get("model") or {}).get("name") or []
    return [names] if isinstance(names, str) else list(map(str, names))


def scalars(summary: pd.DataFrame) -> dict[str, float]:
    """Every mean of a summary by its name, with the ends of its interval and n behind it.

    `auc/<order>_<quantity>/<method>` for areas, `measure/<measure>/<method>` for shares and rates;
    other columns that tell lines apart come in between, `/low`, `/high` and `/n` last.
    """
    value = next((name for name in ("auc", "value") if name in summary), None)
    if value is None:
        return {}
    kinds = [name for name in ("order", "quantity", "measure") if name in summary]
    apart = [name for name in summary if summary[name].nunique() > 1]
    others = [n for n in apart if n not in (value, *INTERVAL, *kinds, "method")]
    named = summary[[*kinds, *others, *(["method"] if "method" in summary else [])]]
    numbers = {}
    for words, line in zip(
        named.fillna("").astype(str).to_numpy(), summary.to_dict("records"), strict=True
    ):
        what = "_".join(filter(None, words[: len(kinds)]))
        kind = "auc" if value == "auc" else "measure"
        name = "/".join(filter(None, (kind, what, *words[len(kinds) :])))
        numbers[name] = float(line[value])
        numbers |= {f"{name}/{end}": float(line[c]) for c, end in INTERVAL.items() if c in line}
    return numbers


def claim_scalars(claims: pd.DataFrame) -> dict[str, float | str]:
    """Every claim by its id: value, interval, n and verdict; and how many verdicts of a kind.

    Names are `claim/<id>/<what>`, with the model in between where there are several.
    """
    numbers: dict[str, float | str] = {}
    several = claims["model"].nunique() > 1
    for row in claims.to_dict("records"):
        model = f"{row['model']}/" if several else ""
        name = f"claim/{model}{row['id'].replace('.', '/')}"  # W&B nests names at dots too
        numbers |= {f"{name}/{what}": float(row[what]) for what in ("value", "low", "high", "n")}
        numbers[f"{name}/verdict"] = str(row["verdict"])
    counts = claims["verdict"].value_counts().to_dict()
    return numbers | {f"claims/{verdict}": int(count) for verdict, count in counts.items()}


def inputs(
    config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and description of the weights and of the data set, for the lineage of a run.

    The same name and checksum in two runs are the same version of the same artifact.
    """
    for model, checksum in (provenance.get("weights_sha256") or {}).items():
        yield f"weights-{slug(model)}", "model", {"model": model, "sha256": checksum}
    if data := config.get("data"):
        about = {name: data.get(name) for name in DATA_SETTINGS}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
        about["sha256"] = provenance.get("data_sha256") or f"of the settings: {digest}"
        yield f"data-{slug(about['name'])}", "dataset", about


def slug(name: Any) -> str:
    """What W&B takes as a name of a run or an artifact."""
    return re.sub(r"[^\w.-]", "-", str(name))[:100]


def media(
    findings: Findings, rows: pd.DataFrame | None, viewer: Sequence[ShownPicture], run_dir: Path
) -> dict[str, Any]:
    """Tables, one of them of pictures, figures and the report, as W&B shows them."""
    import wandb

    tables = {"summary": findings.summary, **findings.tables}
    if len(findings.claims):
        tables["claims"] = findings.claims
    if viewer:
        tables["images"] = image_table(viewer, rows)
    elif rows is not None and {"fraction", "guide"} <= set(rows):
        tables["images"] = masked_images(rows, run_dir)
    tables = {
        name: table.map(lambda cell: wandb.Image(cell) if isinstance(cell, Image.Image) else cell)
        for name, table in tables.items()
    }
    figures = {"figure": findings.figure, **findings.figures}
    pictures = {name: Image.open(BytesIO(render(figure))) for name, figure in figures.items()}
    report = run_dir / "report.html"
    return {
        **{f"table/{name}": wandb.Table(dataframe=table) for name, table in tables.items()},
        **{f"figure/{name}": wandb.Image(picture) for name, picture in pictures.items()},
        **({"report": wandb.Html(str(report), inject=False)} if report.is_file() else {}),
    }


def image_table(viewer: Sequence[ShownPicture], rows: pd.DataFrame | None) -> pd.DataFrame:
    """The table of pictures: each with its overlays as PIL pictures, prediction and numbers.

    Args:
        viewer: Pictures with maps; the first `SAMPLE_IMAGES` are taken.
        rows: Of the run, for the prediction and its numbers; None where there are none.
    """
    lines = []
    for shown in viewer[:SAMPLE_IMAGES]:
        picture = Image.open(BytesIO(shown.png)).convert("RGB")
        line: dict[str, Any] = {"image_id": shown.id, "title": shown.title, "picture": picture}
        if shown.target is not None:
            line["target"] = shown.target
        for method, relevance in shown.maps.items():
            pixels = (255 * overlay(picture, relevance)).round().astype("uint8")
            line[method_label(method)] = Image.fromarray(pixels)
        lines.append(line)
    table = pd.DataFrame(lines, dtype=object)
    if rows is not None:
        known = rows[[name for name in MEASURED if name in rows]].astype(object)
        keys = [name for name in ("image_id", "target") if name in table and name in known]
        table = table.merge(known.drop_duplicates(keys), "left", keys)
    return table.astype(object).where(table.notna(), None)


def curves(rows: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Mean perturbation curves, in percent: all of one fraction at a time.

    Names are `curve/<order>_<quantity>/<method>`, with the model in between where there are
    several; those of pictures without the guide that others have begin with `curve_alone`. Nothing
    where the rows are not of a perturbation study.
    """
    columns = {column: quantity for quantity, column in QUANTITIES.items()}
    if not {"fraction", "order", "method", *columns} <= set(rows):
        return
    guide = rows.get("guide", pd.Series("", rows.index))
    alone = guide.eq("none") & (guide.nunique() > 1)
    rows = rows.assign(kind=alone.map({True: "curve_alone", False: "curve"}))
    several = ["model"] if "model" in rows and rows["model"].nunique() > 1 else []
    names = ["kind", "order", *several, "method"]
    means: Any = 100 * rows.groupby(["fraction", *names])[list(columns)].mean().unstack(names)
    means.columns = pd.Index(
        [
            "/".join((kind, f"{order}_{columns[column]}", *map(str, rest)))
            for column, kind, order, *rest in means.columns.tolist()
        ]
    )
    for step in means.reset_index().to_dict("records"):
        yield {str(name): value for name, value in step.items() if pd.notna(value)}


def masked_images(rows: pd.DataFrame, run_dir: Path) -> pd.DataFrame:
    """A line per stored picture of a perturbation study: as masked, and what it was taken for.

    By method and order it says at how many percent of the steps the picture is recognised.
    """
    rows, keys = rows[rows["guide"] == rows["guide"].iloc[0]], ["model", "image_id"]
    table: Any = 100 * rows.pivot_table("correct", keys, ["method", "order"], sort=False)
    table.columns = pd.Index([", ".join(names) for names in table.columns])
    files = [picture_file(run_dir, f"{model} {image}") for model, image in table.index]
    stored = [Image.open(BytesIO(f.read_bytes())) if f.is_file() else None for f in files]
    table.insert(0, "picture", stored)
    known = rows[rows["fraction"] == rows["fraction"].min()].groupby(keys, sort=False)
    table = known[["label", "prediction", "probability"]].first().join(table)
    return table[table["picture"].notna()].head(SAMPLE_IMAGES).reset_index()
