"""Tables of README and findings, from the stored claims and summaries in `docs/results`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from attnguide.findings import judgement
from attnguide.viz.style import method_label

DOCS = Path(__file__).resolve().parent
WORLDS = {
    "embedded": "Creatures (embedded model)",
    "photographs": "Photographs (ViT-Tiny, ImageNet pictures)",
}
BADGES = {"holds": "**holds**", "does not hold": "*does not hold*"}
CREATURES_ONLY = ("in_domain_deletion", "parts")  # need a model or masks that photographs lack


def results(world: str) -> list[Path]:
    """Stored experiments of a world, in order."""
    return sorted(path.parent for path in (DOCS / "results" / world).glob("*/claims.csv"))


def told(folder: Path) -> dict[str, Any]:
    """Title, claim, caption and further sentences of an experiment."""
    return json.loads((folder / "findings.json").read_text())


def _badge(verdict: str) -> str:
    return BADGES.get(verdict, verdict)


def claims_table(claims: pd.DataFrame) -> str:
    """Claims with verdicts as a table."""
    lines = ["| claim | measured | n | bound | verdict |", "|---|---|---|---|---|"]
    for line in claims.to_dict("records"):
        found = judgement(line)
        number, bound = f"{found.value} {found.interval}".strip(), found.bound.partition(" ")[2]
        cells = (line["claim"], number, line["n"], bound, _badge(found.verdict))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def verdict_table() -> str:
    """One line per experiment for the README: how many claims hold on each world."""
    lines = ["| experiment | what it shows | creatures | photographs | time |", "|---" * 5 + "|"]
    for folder in results("embedded"):
        cells = [_count(DOCS / "results" / world / folder.name) for world in WORLDS]
        cost = json.loads((folder / "cost.json").read_text())
        title = told(folder)["title"].partition(": ")[2] or told(folder)["title"]
        seconds = f"{cost['seconds']:.0f} s"
        lines.append(f"| `{folder.name}` | {title} | {cells[0]} | {cells[1]} | {seconds} |")
    return "\n".join(lines)


def _count(folder: Path) -> str:
    if not (folder / "claims.csv").is_file():
        return "creatures only" if folder.name in CREATURES_ONLY else "not run"
    counts = pd.read_csv(folder / "claims.csv")["verdict"].value_counts()
    words = (f"{counts[name]} {word}" for name, word in _WORDS.items() if counts.get(name))
    return ", ".join(words) or "no claim"


_WORDS = {"holds": "hold", "does not hold": "do not", "inconclusive": "open"}


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
        found: dict[str, list[str]] = {verdict: [] for verdict in _WORDS}
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
        "| pictures | SRG without a guide | more, points | n | verdict |",
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
    told = [f"It does: {', '.join(does)}."] * bool(does)
    told += [f"It does not, or it is open: {', '.join(does_not)}."] * bool(does_not)
    return "\n".join([" ".join(told), "", *lines])
