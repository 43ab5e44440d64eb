"""Tables of README, paper and findings, from the stored claims and summaries in `docs/results`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import yaml

from attnguide.evaluation.statistics import MIN_IMAGES, VERDICTS
from attnguide.findings import judgement
from attnguide.runs.main import CONF, list_experiments
from attnguide.viz.style import method_label

DOCS = Path(__file__).resolve().parent
WORLDS = {
    "embedded": "Creatures (embedded model)",
    "photographs": "Photographs (ViT-Tiny, ImageNet pictures)",
}
BADGES = {"holds": "**holds**", "does not hold": "*does not hold*"}
Line: TypeAlias = dict[str, Any]  # of claims.csv; a statement
PAPER = (DOCS / "paper_head.txt").read_text().strip()  # of paper.md
NOTES = {
    "Figure 12: areas": "Area under the curve in percent (top-1 recognition; fill 0 in normalised "
    "space), pictures with a guide; SRG is the area of the negative test minus that of the "
    "positive; AUC (Chefer) is not divided by the range of 0.9, as in published tables.",
    "Which code computed these tables": "Settings and versions of each stand in "
    "`docs/results/<world>/<experiment>/provenance.json`.",
    "Controls and studies of ours": "Each claim with its number is in [findings](findings.md).",
}


def results(world: str) -> list[Path]:
    """Stored experiments of a world, in order."""
    return sorted(path.parent for path in (DOCS / "results" / world).glob("*/claims.csv"))


def told(folder: Path) -> dict[str, Any]:
    """Title, claim, caption and further sentences of an experiment."""
    return json.loads((folder / "findings.json").read_text())


def _badge(verdict: str) -> str:
    return BADGES.get(verdict, verdict)


def claims_table(claims: pd.DataFrame) -> str:
    """Claims with bounds and verdicts as a table."""
    lines = ["| claim | measured | bound | n | verdict |", "|---" * 5 + "|"]
    for line in claims.to_dict("records"):
        verdict = _badge(line["verdict"]) + why_open(line)
        ours = "(ours) " if line["source"] == "ours" else ""
        cells = [ours + line["claim"], measured(line), bound(line), line["n"], verdict]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def why_open(line: Line) -> str:
    """Why a claim is inconclusive where its interval alone does not say so."""
    if line["verdict"] != "inconclusive":
        return ""
    if line["n"] < MIN_IMAGES:
        return f" (n < {MIN_IMAGES})"
    if not line["low"] <= line["bound"] <= line["high"]:
        return f" (corrected p = {line['p_holm']:.2f})"
    return ""


def measured(line: Line) -> str:
    """Value and interval of a claim."""
    found = judgement(line)
    return f"{found.value} {found.interval}".strip()


def bound(line: Line) -> str:
    """What the value must be for the claim to hold, such as "> 0.5"."""
    return judgement(line).bound.partition(" ")[2]


def statements() -> list[Line]:
    """What the paper says, with the ids of the claims that judge it; see `statements.yaml`."""
    return yaml.safe_load((DOCS / "statements.yaml").read_text())


def judged(statement: Line, world: str) -> list[Line]:
    """Claims of a statement in a world, in the order of its ids."""
    named = statement.get("claims", ())
    return [line for id in named for line in claims_by_id(world, statement["experiment"], id)]


def first_screen() -> str:
    """The statements of most weight, for the README: verdict and number in both worlds."""
    lines = ["| Fig. | the paper says | creatures | photographs |", "|---" * 4 + "|"]
    for statement in statements():
        for words, id in statement.get("first", {}).items():
            cells = [str(int(statement["experiment"][3:5])), words]
            for world in WORLDS:
                found = claims_by_id(world, statement["experiment"], id)
                found.sort(key=lambda line: -line["n"])  # of groups of pictures the largest
                cells.append("; ".join(map(short, found[:1])) or "not judged")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(line: Line) -> str:
    """Verdict, number, bound and n, such as "**holds**: 0.97 [0.94, 0.99] > 0.5, n = 160"."""
    return f"{_badge(line['verdict'])}: {measured(line)} {bound(line)}, n = {line['n']}"


def paper_page() -> str:
    """Each statement of the paper with its claims in both worlds, then what is ours."""
    parts = [re.sub(r"\[\[(\w+) (\w+) (\S+)\]\]", _number, PAPER)]
    for number, statement in enumerate(statements(), 1):
        parts += [f"## {number}. {statement['says']}", f"*Paper: {statement['section']}.*"]
        parts += [" ".join(statement["means"].split())]
        for world, words in WORLDS.items():
            found = judged(statement, world)
            if found:
                picture = f"gallery.md#{statement['experiment']}-{world}"
                parts += [f"{words} ([picture]({picture})):", claims_table(pd.DataFrame(found))]
    tables = {
        "Figure 12: areas": perturbation_table,
        "Figure 13: both signs right, share of pictures of two classes": signs_table,
        "Only, and best": rivals,
        "LibraGrad's gradient without a guide": libra_table,
        "Controls and studies of ours": ours_table,
        "Which code computed these tables": computed_by,
    }
    for title, table in tables.items():
        parts += [f"## {title}", NOTES.get(title, ""), table()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _number(named: re.Match[str]) -> str:
    """What was measured for a claim that the page's head names by world, experiment and id."""
    (line,) = claims_by_id(named[1], named[2], re.escape(named[3]))
    return measured(line)


def computed_by() -> str:
    """The commit that computed all tables, and how long its runs took, added up."""
    paths = [path / "provenance.json" for world in WORLDS for path in results(world)]
    stored = [json.loads(path.read_text()) for path in paths]
    commits = ", ".join(sorted({each["commit"][:12] for each in stored}))
    hours = sum(each["seconds"] for each in stored) / 3600
    return f"All {len(stored)} tables: commit {commits}, {hours:.1f} hours in all."


def ours_table() -> str:
    """What is ours, one line per experiment: how many claims of each verdict."""
    lines = ["| experiment | creatures | photographs |", "|---" * 3 + "|"]
    for name in dict.fromkeys(path.name for world in WORLDS for path in results(world)):
        cells = [_count(DOCS / "results" / world / name) for world in WORLDS]
        if set(cells) != {""}:
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(folder: Path) -> str:
    if not (folder / "claims.csv").is_file():
        return ""
    claims = pd.read_csv(folder / "claims.csv")
    return verdict_counts(claims[claims["source"] == "ours"])


def verdict_counts(claims: pd.DataFrame) -> str:
    """Such as "holds 6, does not hold 1, inconclusive 1"."""
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{name} {counts[name]}" for name in VERDICTS if name in counts)


def experiments() -> str:
    """What `python run.py` lists, for the README."""
    return f"```text\n{list_experiments(CONF)}\n```"


def perturbation_table() -> str:
    """Areas of Figure 12 on both worlds, guided."""
    lines = [
        "| pictures | method | n | negative AUC | positive AUC | SRG | AUC (Chefer), negative |"
    ]
    lines.append("|---" * 7 + "|")
    for world, words in WORLDS.items():
        path = DOCS / "results" / world / "fig12_perturbation" / "summary.csv"
        table = pd.read_csv(path).fillna({"order": ""}) if path.is_file() else None
        for method in dict.fromkeys(table["method"]) if table is not None else ():
            own = table[table["method"] == method].set_index(["quantity", "order"])
            keys = [("accuracy", "negative"), ("accuracy", "positive"), ("srg", "")]
            cells = [_interval(own.loc[key]) for key in [*keys, ("auc_chefer", "negative")]]
            n = int(own.loc[keys[0]]["n"])
            lines.append(f"| {words} | `{method}` | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(line: pd.Series) -> str:
    text = f"{line['auc']:.1f} [{line['ci_low']:.1f}, {line['ci_high']:.1f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def signs_table() -> str:
    """Figure 13: share of pictures in which both signs are right, by method."""
    tables = {}
    for world in WORLDS:
        path = DOCS / "results" / world / "fig13_method_comparison" / "summary.csv"
        if path.is_file():
            table = pd.read_csv(path)
            tables[world] = table[table["measure"] == "both signs right"].set_index("method")
    lines = [f"| method | {' | '.join(WORLDS[world] for world in tables)} |"]
    lines.append("|---" * (len(tables) + 1) + "|")
    for method in dict.fromkeys(name for table in tables.values() for name in table.index):
        cells = [_share(tables[world], method) for world in tables]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return "not run"
    line = table.loc[method]
    return f"{line['value']:.2f} [{line['ci_low']:.2f}, {line['ci_high']:.2f}], n = {line['n']:.0f}"


def rivals() -> str:
    """Whether complete is the only one with both signs, and the best beside a guide."""
    lines = []
    for world, words in WORLDS.items():
        for line in claims_by_id(world, "fig13_method_comparison", r"fig13\.only_complete"):
            lines.append(f"- {words}: {line['claim']}: {judgement(line)}.")
    for world, words in WORLDS.items():
        found: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
        named = r"fig12\.complete_minus_(\w+)\.negative"
        for line in claims_by_id(world, "fig12_perturbation", named):
            found[line["verdict"]].append(method_label(line["named"][0]))
        parts = "; ".join(f"{_badge(v)} against {', '.join(n)}" for v, n in found.items() if n)
        if parts:
            lines.append(f'- "Complete is recognised longest beside a guide", {words}: {parts}.')
    return "\n".join(lines)


def claims_by_id(world: str, experiment: str, pattern: str) -> list[dict[str, Any]]:
    """Lines of claims.csv whose whole id is like this; `named` holds the pattern's groups."""
    path = DOCS / "results" / world / experiment / "claims.csv"
    lines = pd.read_csv(path).to_dict("records") if path.is_file() else []
    found = ((line, re.fullmatch(pattern, line["id"])) for line in lines)
    return [line | {"named": match.groups()} for line, match in found if match]


def libra_table() -> str:
    """What LibraGrad's gradient does without a guide, from the claims of Figure 12."""
    lines = [
        "| pictures | SRG without a guide | difference, points (> 0) | n | verdict |",
        "|---" * 5 + "|",
    ]
    mended = {}
    for world, words in WORLDS.items():
        named = r"fig12\.complete_libra_minus_(\w+)\.srg\.alone"
        for line in claims_by_id(world, "fig12_perturbation", named):
            (rival,) = line["named"]
            pair = f"{method_label('complete_libra')} minus {method_label(rival)}"
            value = f"{line['value']:.1f} [{line['low']:.1f}, {line['high']:.1f}]"
            value = value.replace("-", "\N{MINUS SIGN}")
            lines.append(
                f"| {words} | {pair} | {value} | {line['n']} | {_badge(line['verdict'])} |"
            )
            if rival == "complete":
                mended[words] = line["verdict"] == "holds"
    if not mended:
        asked = "`method=[complete,gae,complete_libra]`"
        return f"Not measured yet at full size: add {asked} to Figure 12."
    does = [words for words, verdict in mended.items() if verdict]
    does_not = [words for words, verdict in mended.items() if not verdict]
    what = "Without a guide complete (Libra) is better than complete"
    told = [f"{what}: {', '.join(does)}."] * bool(does)
    told += [f"{what} is not shown: {', '.join(does_not)}."] * bool(does_not)
    return "\n".join([" ".join(told), "", *lines])
