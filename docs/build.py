"""Write every number of the docs from stored tables: `make docs`.

`docs/results/<world>/<experiment>/` holds claims.csv, summary.csv and the caption of a run.
With folders of runs as arguments, these and the pictures are taken from there first:

    python docs/build.py embedded=outputs/all_figures photographs=outputs/photographs
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from settings import settings_page

from attnguide.runs.plugins import adopt

DOCS = Path(__file__).resolve().parent
WORLDS = {
    "embedded": "Creatures (embedded model)",
    "photographs": "Photographs (ViT-Tiny, ImageNet pictures)",
}
MAX_WIDTH = 1000  # pixels of a picture
MANY = 16  # claims of a study that is no figure of the paper; more are folded
BADGES = {"holds": "**holds**", "does not hold": "*does not hold*"}
CREATURES_ONLY = ("in_domain_deletion", "parts")  # need a model or masks that photographs lack
FINDINGS = "findings.md"
BEYOND = "# What the paper does not say"


def take(world: str, root: Path) -> None:
    """Copy tables, captions and pictures of all finished runs below a folder."""
    for folder in sorted(path.parent for path in root.rglob("claims.csv") if path.parent != root):
        told = folder / "findings.json"
        if not told.is_file():
            continue
        name = pd.read_csv(folder / "claims.csv")["experiment"].head(1).tolist()
        experiment = name[0] if name else _experiment(folder)
        place = DOCS / "results" / world / experiment
        place.mkdir(parents=True, exist_ok=True)
        for file in ("claims.csv", "summary.csv", "findings.json"):
            shutil.copyfile(folder / file, place / file)
        cost = json.loads((folder / "provenance.json").read_text())
        kept = {key: cost.get(key) for key in ("seconds", "peak_memory_mb", "device", "versions")}
        (place / "cost.json").write_text(json.dumps(kept, indent=1) + "\n")
        _shrink(folder / "figure.png", DOCS / "gallery" / world / f"{experiment}.webp")


def _experiment(folder: Path) -> str:
    found = re.search(r"^experiment: (\w+)", (folder / "config.yaml").read_text(), re.MULTILINE)
    return found[1] if found else folder.name


def _shrink(source: Path, goal: Path) -> None:
    """In true colours, at most `MAX_WIDTH` wide."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    if picture.width > MAX_WIDTH:
        size = (MAX_WIDTH, round(picture.height * MAX_WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(goal, quality=90, method=6)


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
    lines = ["| claim | measured | n | verdict |", "|---|---|---|---|"]
    for line in claims.to_dict("records"):
        value = f"{line['value']:.2f} [{line['low']:.2f}, {line['high']:.2f}]"
        value = value.replace("-", "\N{MINUS SIGN}")
        lines.append(f"| {line['claim']} | {value} | {line['n']} | {_badge(line['verdict'])} |")
    return "\n".join(lines)


def folded(experiment: str, claims: pd.DataFrame) -> str:
    """The table; many claims of a study are counted by verdict, and unfold."""
    table = claims_table(claims)
    if len(claims) <= MANY or experiment.startswith("fig"):
        return table
    counts = claims["verdict"].value_counts()
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    opened = f'<details markdown="1"><summary>{len(claims)} claims: {told}</summary>'
    return f"{opened}\n\n{table}\n\n</details>"


def findings() -> str:
    """Each claim, its verdict on both worlds with number and n."""
    parts = [
        "# What holds",
        "",
        "Written by `make docs` from stored tables (`docs/results`). A claim *holds* or *does not "
        "hold* where its whole 95 % interval lies on one side of the bound; with fewer than 10 "
        "independent pictures, or an interval that contains the bound, it *cannot be told*. "
        "Brackets are 95 % intervals; n counts independent pictures. Sentences state the claim "
        "that was judged, so *does not hold* says that this sentence is not so.",
    ]
    names = dict.fromkeys(path.name for world in WORLDS for path in results(world))
    figures = sorted(name for name in names if name.startswith("fig"))
    studies = sorted(set(names) - set(figures))
    for name in [*figures, *studies]:
        if name == next(iter(studies), None):
            parts += ["", BEYOND, "", rivals(), "", "Does a corrected gradient (LibraGrad) mend "
                      "complete without a guide?", "", libra_table()]  # fmt: skip
        folders = [(world, DOCS / "results" / world / name) for world in WORLDS]
        folders = [(world, folder) for world, folder in folders if folder.is_dir()]
        own = told(folders[0][1])
        parts += ["", f"## {own['title']} (`{name}`)", "", f"> {own['claim']}"]
        for world, folder in folders:
            claims = pd.read_csv(folder / "claims.csv")
            for model, part in claims.groupby("model", sort=False):
                parts += ["", f"{WORLDS[world]}, `{model}`:", "", folded(name, part)]
            named = [f"{line['model']}: {line['claim']}:" for line in claims.to_dict("records")]
            further = [
                words for words in told(folder)["found"] if not words.startswith(tuple(named))
            ]
            parts += ["", " ".join(further)] if further else []
    return "\n".join(parts) + "\n"


def gallery() -> str:
    """Every figure with its caption."""
    parts = ["# Gallery", "", "Written by `make docs`; verdicts are in [findings](findings.md)."]
    for world, words in WORLDS.items():
        for folder in results(world):
            own = told(folder)
            picture = f"gallery/{world}/{folder.name}.webp"
            caption = _described(folder, own["caption"])
            parts += ["", f"## {own['title']}: {words}", "", f"![{own['title']}]({picture})"]
            parts += ["", caption]
    return "\n".join(parts) + "\n"


def _described(folder: Path, caption: str) -> str:
    """A caption without the claims in it, which stand in the findings."""
    claims = pd.read_csv(folder / "claims.csv")
    if claims.empty:
        return caption
    first = claims.iloc[0]
    return caption.split(f"{first['model']}: {first['claim']}")[0].strip()


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


_WORDS = {"holds": "hold", "does not hold": "do not", "cannot be told": "open"}


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
        for line in _claims_of(world, "fig13_method_comparison", "only complete"):
            number = f"{line['value']:.2f} [{line['low']:.2f}, {line['high']:.2f}]"
            best = line["claim"].rpartition(" is ")[2]
            lines.append(f"- \"Only complete has both signs right\", {words}: "
                         f"{_badge(line['verdict'])}; {best} has {number}.")  # fmt: skip
    for world, words in WORLDS.items():
        named = r"recognised longer, complete minus (?:.*?), points.*with the guide"
        own = _claims_of(world, "fig12_perturbation", named)
        if own:
            names = [line["claim"].partition(" minus ")[2].partition(",")[0] for line in own]
            told = {v: [n for n, line in zip(names, own, strict=True) if line["verdict"] == v]
                    for v in ("holds", "does not hold", "cannot be told")}  # fmt: skip
            parts = "; ".join(f"{_badge(v)} against {', '.join(n)}" for v, n in told.items() if n)
            lines.append(f'- "Complete is recognised longest beside a guide", {words}: {parts}.')
    return "\n".join(lines)


def _claims_of(world: str, experiment: str, named: str) -> list[dict[str, Any]]:
    path = DOCS / "results" / world / experiment / "claims.csv"
    claims = pd.read_csv(path) if path.is_file() else pd.DataFrame({"claim": []})
    return claims[claims["claim"].astype(str).str.contains(named)].to_dict("records")


def libra_table() -> str:
    """What LibraGrad's gradient does without a guide, from the claims of Figure 12."""
    lines = [
        "| pictures | SRG without a guide | more, points | n | verdict |",
        "|---" * 5 + "|",
    ]
    mended = {}
    for world, words in WORLDS.items():
        named = r"more SRG, (?:complete \(Libra\) minus \w+).*without a guide"
        for line in _claims_of(world, "fig12_perturbation", named):
            pair = line["claim"].partition("SRG, ")[2].partition(", points")[0]
            value = f"{line['value']:.1f} [{line['low']:.1f}, {line['high']:.1f}]"
            value = value.replace("-", "\N{MINUS SIGN}")
            lines.append(
                f"| {words} | {pair} | {value} | {line['n']} | {_badge(line['verdict'])} |"
            )
            if pair.endswith("complete"):
                mended[words] = line["verdict"] == "holds"
    if not mended:
        asked = "`method=[complete,gae,complete_libra]`"
        return f"Not measured yet at full size: add {asked} to Figure 12."
    does = [words for words, verdict in mended.items() if verdict]
    does_not = [words for words, verdict in mended.items() if not verdict]
    told = [f"It does: {', '.join(does)}."] * bool(does)
    told += [f"It does not, or it cannot be told: {', '.join(does_not)}."] * bool(does_not)
    return "\n".join([" ".join(told), "", *lines])


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`."""
    content = path.read_text()
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marked.search(content):
        raise SystemExit(f"{path} has no place <!-- {name} --> ... <!-- /{name} -->")
    path.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", content))


def main() -> None:
    """Take what was given, then write gallery, findings and the README's table."""
    adopt(DOCS.parent, None)
    for word in sys.argv[1:]:
        world, _, root = word.partition("=")
        if world not in WORLDS or not Path(root).is_dir():
            raise SystemExit(f"expected {' or '.join(WORLDS)}=FOLDER, got {word!r}")
        take(world, Path(root))
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / FINDINGS).write_text(findings())
    (DOCS / "gallery.md").write_text(gallery())
    tables = {
        "verdicts": verdict_table,
        "perturbation": perturbation_table,
        "signs": signs_table,
        "libra": libra_table,
        "rivals": rivals,
    }
    for name, table in tables.items():
        fill(DOCS.parent / "README.md", name, table())


if __name__ == "__main__":
    main()
