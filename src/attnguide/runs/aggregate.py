"""Many runs as one: tables of all their summaries and claims, one figure, one page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.errors import HydraException
from matplotlib.figure import Figure
from rich.console import Console

from attnguide.evaluation.perturbation_rows import CONTROLS, QUANTITIES
from attnguide.figures.claims import Claim, Table, correct, gap, slug
from attnguide.figures.experiment import Stored
from attnguide.figures.perturbation_figure import gain
from attnguide.figures.table_figure import TableFigure
from attnguide.findings import CLAIM_COLUMNS, Findings, no_claims
from attnguide.methods.corrected_rollout import PUBLISHED
from attnguide.report.index import RunRecord, index_page, read_run
from attnguide.report.page import page
from attnguide.runs.console import print_summary
from attnguide.runs.objects import build, build_logger, stored_experiment
from attnguide.runs.resume import read_inputs
from attnguide.runs.settings import NOT_COMPARED
from attnguide.store.files import csv_bytes, write_atomic
from attnguide.store.folder import FAILED, RunFolder, flat
from attnguide.store.provenance import Provenance
from attnguide.viz.charts import Dot, DotPanel, draw_dots
from attnguide.viz.style import method_label, render

VALUES = ("auc", "value")  # what a summary's interval belongs to
NUMBERS = (*VALUES, "ci_low", "ci_high", "n")
BY_METHOD = ("experiment", "methods")  # what the name of a method tells
PLAIN = (*BY_METHOD, "model.name")  # settings whose values say what they are
MAX_PANELS, MAX_PAIRED, MAX_NAMES = 24, 6, 4
LONGEST = 400  # letters of why a job failed
# Damaged, or not ours
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def aggregate(config: Mapping[str, Any], root: Path, console: Console) -> None:
    """One table, figure and page of all finished runs below a folder (`stage=aggregate`).

    Raises:
        FileNotFoundError: no finished run.
    """
    runs, left_out = find_runs(root)
    missing = [f"{name} ({why})" for name, why in left_out.items()]
    for line in missing:
        console.print(f"left out: {line}")
    if not runs:
        named = "; ".join(missing[:8])
        raise FileNotFoundError(
            f"no finished run below {root}"
            + (f": {named}; run these commands again" if named else "; pass run_dir=FOLDER")
        )
    settings, findings = settings_of(runs), gather(runs, root)
    claims = [findings.claims, *(run.claims.assign(run=run.name) for run in runs)]
    claims = [table for table in claims if len(table)] or claims[:1]
    write_atomic(root / "aggregate.csv", csv_bytes(table_of(runs, left_out)))
    write_atomic(root / "claims.csv", csv_bytes(pd.concat(claims, ignore_index=True)))
    for kind in ("png", "pdf"):
        write_atomic(root / f"aggregate.{kind}", render(findings.figure, kind))
    first = settings.drop(columns=differing(settings)).iloc[0]
    shared = {str(key): value for key, value in first.items() if repr(value) != "nan"}
    shared["model"] = shared.pop("model.name", "")
    origin = {"runs": [run.name for run in runs], "left out": missing}
    png = (root / "aggregate.png").read_bytes()
    write_atomic(root / "aggregate.html", page(findings, shared, origin, png).encode())
    write_atomic(root / "index.html", index_page(_titled(runs), left_out, "All runs").encode())
    with build_logger(config["logger"]).open(root, {"experiment": "aggregate"}) as tracker:
        tracker.log(findings)
    if len(pairs := findings.claims):
        brief = pairs[["claim", "value", "low", "high", "n", "verdict"]]
        findings = replace(findings, summary=brief, claims=no_claims())
    print_summary(findings, root / "aggregate.png", root / "aggregate.html", console)


def write_index(root: Path, title: str) -> Path:
    """One page of all finished runs below a folder, `index.html`; the others are named."""
    runs, left_out = find_runs(root)
    path = root / "index.html"
    write_atomic(path, index_page(_titled(runs), left_out, title).encode())
    return path


def _titled(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with what differs as titles, where several have the same."""
    count = Counter(run.title for run in runs)
    return [
        replace(run, title=name) if count[run.title] > 1 else run
        for run, name in zip(runs, named(runs), strict=True)
    ]


def dashboard(config: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Define the panels of W&B for the config's methods and models (`stage=dashboard`)."""
    from attnguide.tracking.dashboard import build as panels_of
    from attnguide.tracking.dashboard import publish

    logger, models = build_logger(config["logger"]), build(config["model"], "model")
    workspace = panels_of(logger, list(config["method"]), list(models.names))
    console.print(publish(workspace, logger, run_dir if run_dir.is_dir() else Path("outputs")))


def find_runs(root: Path) -> tuple[list[RunRecord], dict[str, str]]:
    """The finished runs below a folder, and why others are left out, by name.

    Runs are folders with a config.yaml; one that holds other runs is represented by these. What
    W&B keeps inside a run is none.
    """
    found = {path.parent for name in ("config.yaml", FAILED) for path in root.rglob(name)}
    names = [path.relative_to(root) for path in found]
    names = sorted(n for n in names if not any(p == "wandb" or p[0] == "." for p in n.parts))
    outer = {parent for name in names for parent in name.parents}
    runs, left_out = [], {}
    for name in map(str, (name for name in names if name not in outer)):
        try:
            why = _what_lacks(root / name)
            if not why:
                run = read_run(root, name)
                index_page([run])  # what cannot be shown is not of ours
                runs.append(run)
        except UNREADABLE as error:
            why = f"cannot be read: {str(error).splitlines()[0]}; run it again"
        if why:
            left_out[name] = why
    return runs, left_out


def _what_lacks(run_dir: Path) -> str:
    """Why a run cannot be counted in yet; empty for a finished one."""
    folder, failed = RunFolder(run_dir), run_dir / FAILED
    if failed.is_file():
        words = failed.read_text(encoding="utf-8", errors="replace").split()
        return f"failed: {' '.join(words)[:LONGEST]}"
    if not folder.provenance().is_file():
        shards = [json.loads(path.read_text()) for path in folder.parts.glob("*.json")]
        finished = sum(bool(shard.get("finished")) for shard in shards)
        return f"{finished} shards finished, not merged" if shards else "not begun"
    values = json.loads(folder.provenance().read_text())
    if not values.get("finished"):
        return "not finished"
    if not folder.summary.is_file():
        return "not drawn: stage=draw"
    whole = "files" not in values or Provenance(run_dir).is_drawn
    return "" if whole else "drawn in part, or changed since: stage=draw"


def settings_of(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """A row per run, a column per setting by dotted name; NaN where a run has no such setting.

    Settings that say where and how fast are left out. An object's `_target_` stands for the object,
    by its last name; `methods` are the names of the methods, or of the one that a rule makes.
    """
    records = []
    for run in runs:
        methods, rule = run.config.get("method") or {}, run.config.get("rule")
        if isinstance(rule, Mapping):
            name = _value("_target_", rule.get("_target_"))
            methods = {PUBLISHED.get(name, name): {}}
        others = {k: value for k, value in run.config.items() if k not in ("method", "rule")}
        own = flat(others | ({"methods": list(methods), "method": methods} if methods else {}))
        own.pop("runner._target_", None)
        kept = [k for k in own if not k.startswith(NOT_COMPARED) and not k.endswith("._partial_")]
        records.append({k.removesuffix("._target_"): _value(k, own[k]) for k in kept})
    return pd.DataFrame(records, dtype=object)


def _value(key: str, value: Any) -> Any:
    """A setting as it is read: "ratio" for the function attnguide.losses.ratio."""
    return str(value).split(".")[-1] if key.endswith("_target_") else value


def differing(settings: pd.DataFrame) -> list[str]:
    """Names of the settings that have more than one value among the runs that have them."""
    values = {str(name): {*settings[name].map(repr)} - {"nan"} for name in settings}
    return [name for name, own in values.items() if len(own) > 1]


def named(runs: Sequence[RunRecord], *, aside: Sequence[str] = ()) -> list[str]:
    """A short name for each run: what differs, such as "complete" or "gae, seed 1".

    Args:
        runs: Where settings are another's, too, the folder tells them apart.
        aside: Settings that are named otherwise, and left out.
    """
    settings = settings_of(runs)
    keys = [key for key in differing(settings) if not key.startswith("method.")]
    ends = [key.rpartition(".")[2] for key in keys]
    short = {k: f"{e if ends.count(e) == 1 else k} " for k, e in zip(keys, ends, strict=True)}
    short |= dict.fromkeys(PLAIN, "")
    records = [
        {k: short[str(k)] + _text(v) for k, v in own.items() if repr(v) != "nan"}
        for own in settings[keys].to_dict("records")
    ]
    names = []
    for own, run in zip(records, runs, strict=True):
        texts = dict.fromkeys(text for key, text in own.items() if key not in aside)
        unique = records.count(own) == 1 and (own or aside)
        names.append(f"{', '.join(texts)} {'' if unique else run.name}".strip())
    return names


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def table_of(runs: Sequence[RunRecord], left_out: Mapping[str, str]) -> pd.DataFrame:
    """Rows of all summaries with the settings that differ as columns; of what is left out, why."""
    settings = settings_of(runs)
    words = settings[differing(settings)].map(lambda v: _text(v) if isinstance(v, list) else v)
    parts = []
    for run, own in zip(runs, words.where(words.notna(), None).to_dict("records"), strict=True):
        columns = {f"{k} (setting)" if k in run.summary else str(k): v for k, v in own.items()}
        part = run.summary.assign(**columns, run=run.name)
        parts.append(part[[*columns, *run.summary, "run"]])
    if left_out:
        parts = [part.convert_dtypes() for part in parts]
        parts.append(pd.DataFrame({"run": list(left_out), "left out": list(left_out.values())}))
    return pd.concat(parts, ignore_index=True)


def gather(runs: Sequence[RunRecord], root: Path) -> Findings:
    """All means in a table and a figure, and pairs of runs compared.

    Means have four digits, to which engines of masked passes agree: what is alike stands once.
    """
    runs = [replace(run, summary=run.summary.map(_four_digits)) for run in runs]
    settings, places, parts = settings_of(runs), named(runs, aside=BY_METHOD), []
    panels = _panels(runs, places)
    for run, place in zip(runs, places, strict=True):
        method = run.summary.get("method", pd.Series("", run.summary.index)).astype(str)
        parts.append(run.summary.assign(method=[_entry(name, place) for name in method]))
    more = max(len(panels) - MAX_PANELS, 0)
    cut = f" {more} further quantities are in the table only." if more else ""
    differ = ", ".join(differing(settings)) or "nothing but the folder"
    return Findings(
        figure=draw_dots(panels[:MAX_PANELS]) if panels else Figure(),
        summary=pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True),
        caption=f"Means and intervals of {len(runs)} runs, which differ in {differ}.{cut}",
        claims=compare(runs, places, root),
        found=(f"{len(runs)} finished runs differ in {differ}.", *_other_code(runs, root)),
        title=f"{len(runs)} runs: {', '.join(named(runs)[:MAX_NAMES])}",
    )


def _four_digits(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _entry(method: str, place: str) -> str:
    """Whose numbers they are: the method, and what differs besides."""
    return ", ".join(filter(None, (method, place)))


def _other_code(runs: Sequence[RunRecord], root: Path) -> list[str]:
    """A sentence about the runs whose rows come from another version of the program than most."""
    stored = [read_inputs(RunFolder(root / run.name)) for run in runs]
    codes = ["; ".join(map(_version, own.code)) if own else "" for own in stored]
    (usual, _), *others = Counter(filter(None, codes)).most_common() or [("", 0)]
    return [
        f"{run.name} comes from other code ({code}) than most ({usual}); run it again to compare."
        for run, code in zip(runs, codes, strict=True)
        if others and code not in ("", usual)
    ]


def _version(code: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in code.items() if value)


def compare(runs: Sequence[RunRecord], places: Sequence[str], root: Path) -> pd.DataFrame:
    """Lines of claims.csv: pairs of runs of the same pictures that differ in one choice.

    Each is the mean difference by picture, of the methods that both have, or of those that only
    one has. With more than `MAX_PAIRED` runs each is compared with the first.
    """
    lines: list[dict[str, Any]] = []
    pairs = [
        (one, other)
        for one, other in combinations(range(len(runs)), 2)
        if not (one and len(runs) > MAX_PAIRED) and _is_pair(runs[one], runs[other])
    ]
    studies = {number: _tables(runs[number], root) for number in {*chain(*pairs)}}
    for one, other in pairs:
        where = {"run": f"{runs[one].name} minus {runs[other].name}"}
        where["experiment"] = str(runs[one].config["experiment"])
        for (model, first), (_, second) in zip(studies[one], studies[other], strict=False):
            ours, theirs = _named_rows(first, places[one]), _named_rows(second, places[other])
            rows = [own for _, own in (*ours.values(), *theirs.values())]
            table = replace(first, rows=pd.concat(rows))
            same = [(name, name) for name in ours if name in theirs]
            for own, rival in [*same, *product(ours.keys() - theirs, theirs.keys() - ours)]:
                for claim in _differences(ours[own][0], theirs[rival][0], table):
                    lines += [line | where for line in claim.lines(model, table)]
    correct(lines)
    lines.sort(key=lambda line: (line["family"], line["id"]))
    return pd.DataFrame(lines, columns=["experiment", *CLAIM_COLUMNS, "run"])


def _tables(run: RunRecord, root: Path) -> list[tuple[str, Table]]:
    """The rows of a run by model and group; none where it has no measures, or they are lost."""
    try:
        experiment = stored_experiment(run.config)
        if isinstance(experiment, TableFigure):
            return experiment.models_and_parts(Stored(root / run.name, run.config))
    except (*UNREADABLE, HydraException):
        pass
    return []


def _named_rows(table: Table, place: str) -> dict[str, tuple[str, pd.DataFrame]]:
    """By method, but for controls: the name that tells it from other runs', its rows under it."""
    rows, found = table.rows, {}
    for method, own in rows.groupby("method", sort=False) if "method" in rows else [("", rows)]:
        name = _entry(method_label(str(method)) if method else "", place)
        if method not in CONTROLS:
            found[str(method)] = name, own.assign(method=name)
    return found


def _differences(first: str, second: str, table: Table) -> Iterator[Claim]:
    """That every measure is larger by the first than by the second."""
    if first == second:
        return
    if "fraction" in table.rows:
        asked = {
            f"{order} test, {quantity}, points of AUC": gain(first, second, quantity, order)
            for order in table.rows["order"].unique()
            for quantity in QUANTITIES
        }
    else:
        asked = {name: gap(first, second, name) for name in table.measures}
    for measure, ask in asked.items():
        name = f"pairs.{slug(measure)}.{slug(first)}_minus_{slug(second)}"
        words = f"{measure}: {first} above {second}"
        yield Claim(name, words, ask, above=0, source="ours", family=measure)


def _is_pair(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs are of the same experiment and pictures and differ in one choice."""
    differ = differing(settings_of([one, other]))
    data = [key for key in differ if key.startswith("data.") and key != "data.num_images"]
    return not data and "experiment" not in differ and len({k.split(".")[0] for k in differ}) == 1


def _panels(runs: Sequence[RunRecord], places: Sequence[str]) -> list[DotPanel]:
    """A panel per experiment and quantity, with a dot per run and method.

    Controls that are the same in all runs stand once, and last.
    """
    found: dict[tuple[str, str], list[tuple[str, list[Dot]]]] = {}
    several = len({run.config.get("experiment") for run in runs}) > 1
    for run, place in zip(runs, places, strict=True):
        value = next((name for name in VALUES if name in run.summary), "")
        if not value or not {"ci_low", "ci_high"} <= set(run.summary):
            continue
        alike = ["model"] if run.summary.get("model", pd.Series()).nunique() < 2 else []
        kinds = [c for c in run.summary if c not in (*NUMBERS, "method", *alike)]
        experiment = [str(run.config.get("experiment")).split("_")[0]]
        for line in run.summary.to_dict("records"):
            words = [str(line[kind]) for kind in kinds if pd.notna(line[kind])]
            title = ", ".join([*(experiment if several or not words else []), *words])
            method = str(line.get("method", "complete"))
            dots = [Dot(method, line[value], line["ci_low"], line["ci_high"])]
            rows = found.setdefault((value, title), [])
            if method not in CONTROLS or dots not in [known for _, known in rows]:
                rows.append((place, dots))
    return [
        DotPanel(title, "AUC (%)" if value == "auc" else value, rows, _limits(value, rows))
        for (value, title), own in found.items()
        for rows in [sorted(own, key=lambda row: row[1][0].method in CONTROLS)]
    ]


def _limits(value: str, rows: Sequence[tuple[str, Sequence[Dot]]]) -> tuple[float, float]:
    """Ends of an axis that holds 0 and all intervals."""
    if value == "auc":
        return 0, 100
    ends = pd.Series([end for _, [d] in rows for end in (d.low, d.high, d.value)])
    low, high = min(0.0, ends.min()), max(0.0, ends.max())
    return low * 1.05, high * 1.05 if high > low else 1.0
