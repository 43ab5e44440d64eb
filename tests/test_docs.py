"""Pages name what there is."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import attnguide
from attnguide.evaluation.fills import check_fill
from attnguide.findings import CLAIM_COLUMNS
from attnguide.methods import check_settings, list_methods

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_experiments_and_methods_that_pages_name_exist(path):
    text = path.read_text()
    experiments = {p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml")}
    added = {"fig14_sign"}  # what docs/adding.md shows how to add; tests/test_additions.py does it
    assert set(re.findall(r"experiment=(\w+[a-z])\b", text)) - added <= experiments
    assert set(re.findall(r'method="(\w+)"', text)) - {"full", "last_layer"} <= {
        *list_methods(),
        "transformer_attribution",
    }


def test_coming_from_gives_settings_that_methods_have():
    text = (ROOT / "docs" / "coming_from.md").read_text()
    given = re.findall(r'`method="(\w+)", (\w+)=(\d+)`', text)
    assert len(given) == 2
    for method, setting, value in given:
        check_settings(method, {setting: int(value)})
    for fill in re.findall(r'fill="(\w+)"', text):
        check_fill(fill)


def test_the_site_has_every_page_and_its_references_exist():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = [next(iter(entry.values())) for entry in site["nav"]]
    written = {"findings.md", "gallery.md", "paper.md", "settings.md"}  # by make docs
    assert not [
        page for page in pages if page not in written and not (ROOT / "docs" / page).is_file()
    ]
    named = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    for name in named:
        module, _, attribute = name.rpartition(".")
        try:
            assert hasattr(__import__(module, fromlist=["x"]), attribute), name
        except ModuleNotFoundError:
            pytest.fail(name)
    public = {name for name in attnguide.__all__ if name not in ("EXAMPLE", "__version__")}
    assert public <= {name.rpartition(".")[2] for name in named}


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*/*/claims.csv")),
                         ids=lambda path: "/".join(path.parts[-3:-1]))  # fmt: skip
def test_stored_claims_are_found_by_id(path):
    claims = pd.read_csv(path)
    assert list(claims) == ["experiment", *CLAIM_COLUMNS]
    assert claims["id"].notna().all()
    assert not claims.duplicated(["model", "id"]).any()
    stored = json.loads(path.with_name("provenance.json").read_text())
    assert not re.search(r'"/\w', json.dumps(stored)), "a path of a machine"


VERDICTS = {  # of what the head of paper.md says in short: experiment and id, by world
    "holds": [
        "fig05_multi_class fig05.both_signs.masks", "fig05_multi_class fig05.both_signs.halves",
        "fig03_gradient_corrections fig03.tells_apart.complete.runner_up",
        "fig12_perturbation fig12.complete_minus_gae.negative",
        "fig13_method_comparison fig13.only_complete",
    ],
    "does not hold": [
        "fig12_perturbation fig12.complete_minus_gae.negative.alone",
        "fig12_perturbation fig12.complete_minus_gae.positive.alone",
        "fig13_method_comparison fig13.only_complete.of_all",
        "fig13_method_comparison fig13.both_signs.attcat",
        "fig09_detail fig09.red.difference", "fig02_pipeline fig02.product",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("verdict", "named"), [(v, n) for v, own in VERDICTS.items() for n in own])
def test_what_the_page_of_the_paper_says_in_short_is_what_was_judged(verdict, named):
    experiment, name = named.split()
    found = []
    for path in (ROOT / "docs" / "results").glob(f"*/{experiment}/claims.csv"):
        claims = pd.read_csv(path).set_index("id")["verdict"]
        found += [claims[name]] if name in claims else []
    assert verdict in found
    assert set(found) <= {verdict, "inconclusive"}


def test_all_tables_are_computed_by_one_commit():
    stored = [json.loads(path.read_text()) for path in (ROOT / "docs").rglob("provenance.json")]
    (commit,) = {each["commit"] for each in stored}
    assert not any(each["dirty"] for each in stored)
    page = (ROOT / "docs" / "paper.md").read_text()
    assert f"All {len(stored)} tables: commit {commit[:12]}" in page


def test_statements_of_the_paper_name_claims_and_experiments_that_exist():
    statements = yaml.safe_load((ROOT / "docs" / "statements.yaml").read_text())
    for statement in statements:
        name = statement["experiment"]
        assert (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file(), name
        tables = (ROOT / "docs" / "results").glob(f"*/{name}/claims.csv")
        known = [id for path in tables for id in pd.read_csv(path)["id"]]
        for pattern in [*statement["claims"], *statement.get("first", {}).values()]:
            assert any(re.fullmatch(pattern, id) for id in known), pattern


def test_readme_can_be_read_in_ten_minutes():
    assert (ROOT / "README.md").read_text().count("\n") <= 250


# docs/settings.md says what there is to set


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import settings

        yield settings.settings_page()
    finally:
        sys.path.remove(str(ROOT / "docs"))
        sys.modules.pop("settings", None)


def rows(page, setting):
    return [line for line in page.splitlines() if f"| `{setting}` |" in line]


def test_the_page_of_settings_is_current(page):
    assert (ROOT / "docs" / "settings.md").read_text() == page, "run make docs"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.num_images", "| int or null | `216` | How many pictures are chosen, evenly over"),
        ("batch_size", "| int from 1 to 2 ** 20 or 'auto' | `16` | Images per step"),
        ("guide.fraction", "| float | `0.5` | Share of the canvas that it takes"),
        ("method.tis.n_masks", "| int or null | `null` | Masks per image; null is" ),
        ("logger.entity", "| str or null | `null` | where runs go"),
        ("model.checkpoint", "local weights for each, or for none."),
        ("runner.unguided_every", "Run the same study without a guide on every n-th picture"),
    ],
)  # fmt: skip
def test_a_setting_has_type_default_and_meaning(page, setting, told):
    assert any(told.replace("null is", "None is") in row for row in rows(page, setting))


def test_every_setting_has_a_meaning(page):
    empty = [line for line in page.splitlines() if re.search(r"^\|.*`\w+\.\w+` \|.*\|\s*\|$", line)]
    assert not [line for line in empty if "no settings" not in line]


def test_the_page_of_settings_says_what_each_experiment_takes(page):
    [line] = [row for row in rows(page, "fig08_guided") if "yes" in row]
    assert line == "| `fig08_guided` | yes | yes | yes |  | yes |  |"
