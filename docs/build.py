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
from tables import (
    DOCS,
    WORLDS,
    claims_table,
    experiments,
    first_screen,
    libra_table,
    paper_page,
    results,
    rivals,
    told,
    verdict_counts,
)

from attnguide.store.folder import RunFolder, flat

MAX_WIDTH = 1000  # pixels of a picture
MANY = 16  # claims of a study that is no figure of the paper; more are folded
FINDINGS = "findings.md"
RECORDED = (
    *("commit", "dirty", "started", "seconds", "peak_memory_mb", "device", "threads", "engine"),
    *("precision", "seed", "versions", "weights_sha256"),
)
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
        (place / "provenance.json").write_text(json.dumps(_provenance(folder), indent=1) + "\n")
        _shrink(folder / "figure.png", DOCS / "gallery" / world / f"{experiment}.webp")


def _provenance(folder: Path) -> dict[str, Any]:
    """Commit, versions, time and settings of a run; of a path its last name alone."""
    stored = json.loads((folder / "provenance.json").read_text())
    named = {
        key: Path(value).name if isinstance(value, str) and value.startswith("/") else value
        for key, value in flat(RunFolder(folder).load_config()).items()
        if not key.startswith(("run_dir", "stage", "logger", "trainer"))
    }
    return {key: stored.get(key) for key in RECORDED} | {"settings": named}


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


def folded(experiment: str, claims: pd.DataFrame) -> str:
    """The table; many claims of a study are counted by verdict, and unfold."""
    table = claims_table(claims)
    if len(claims) <= MANY or experiment.startswith("fig"):
        return table
    opened = (
        f'<details markdown="1"><summary>{len(claims)} claims: {verdict_counts(claims)}</summary>'
    )
    return f"{opened}\n\n{table}\n\n</details>"


def findings() -> str:
    """Each claim, its verdict on both worlds with number and n."""
    parts = [
        "# What holds",
        "",
        "Written by `make docs` from stored tables (`docs/results`). A claim *holds* or *does not "
        "hold* where its whole 95 % interval lies on one side of the bound; with fewer than 10 "
        "independent pictures, an interval that contains the bound, or a p above 0.05 after "
        "Holm's correction over the claims of one question, it is *inconclusive*. "
        "Brackets are 95 % intervals; n counts independent pictures. Sentences state the claim "
        "that was judged, so *does not hold* says that this sentence is not so.",
    ]
    beyond = False
    for name, folders in by_experiment().items():
        if not beyond and not name.startswith("fig"):
            beyond = True
            parts += ["", BEYOND, "", rivals(), "", "Does a corrected gradient (LibraGrad) mend "
                      "complete without a guide?", "", libra_table()]  # fmt: skip
        own = told(folders[0][1])
        parts += ["", f'<a id="{name}"></a>', "", f"## {own['title']} (`{name}`)"]
        parts += ["", f"> {own['claim']}"]
        for world, folder in folders:
            claims = pd.read_csv(folder / "claims.csv")
            for model, part in claims.groupby("model", sort=False):
                parts += ["", f"{WORLDS[world]}, `{model}`:", "", folded(name, part)]
            parts += ["", " ".join(told(folder)["found"])] if told(folder)["found"] else []
    return "\n".join(parts) + "\n"


def gallery() -> str:
    """Every figure in both worlds side by side, its caption, verdicts and a link to its claims."""
    parts = ["# Gallery", "", "Written by `make docs`. Click a picture to see it in full size."]
    for name, folders in by_experiment().items():
        anchors = "".join(f'<a id="{name}-{world}"></a>' for world, _ in folders)
        shown = [f"gallery/{world}/{name}.webp" for world, _ in folders]
        counts = [verdict_counts(pd.read_csv(path / "claims.csv")) for _, path in folders]
        rows = [
            [WORLDS[world] for world, _ in folders],
            ["---"] * len(folders),
            [f"[![{name}]({picture})]({picture})" for picture in shown],
            counts,
            [told(folder)["caption"] for _, folder in folders],
        ]
        parts += ["", anchors, "", f"## {told(folders[0][1])['title']} (`{name}`)", ""]
        parts += [f"| {' | '.join(cells)} |" for cells in rows]
        parts += ["", f"[Every claim]({FINDINGS}#{name})"]
    return "\n".join(parts) + "\n"


def by_experiment() -> dict[str, list[tuple[str, Path]]]:
    """Worlds and folders of each experiment, the paper's figures first."""
    names = {path.name for world in WORLDS for path in results(world)}
    found = {}
    for name in sorted(names, key=lambda name: (not name.startswith("fig"), name)):
        folders = [(world, DOCS / "results" / world / name) for world in WORLDS]
        found[name] = [(world, folder) for world, folder in folders if folder.is_dir()]
    return found


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`."""
    content = path.read_text()
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marked.search(content):
        raise SystemExit(f"{path} has no place <!-- {name} --> ... <!-- /{name} -->")
    path.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", content))


def main() -> None:
    """Take what was given, then write gallery, findings and the README's table."""
    sys.path.append(str(DOCS.parent))  # experiments
    for word in sys.argv[1:]:
        world, _, root = word.partition("=")
        if world not in WORLDS or not Path(root).is_dir():
            raise SystemExit(f"expected {' or '.join(WORLDS)}=FOLDER, got {word!r}")
        take(world, Path(root))
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / FINDINGS).write_text(findings())
    (DOCS / "gallery.md").write_text(gallery())
    (DOCS / "paper.md").write_text(paper_page())
    tables = {"paper": first_screen, "experiments": experiments}
    for name, table in tables.items():
        fill(DOCS.parent / "README.md", name, table())


if __name__ == "__main__":
    main()
