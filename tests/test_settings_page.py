"""`docs/settings.md` says what there is to set, and is as the code is."""

import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(DOCS))
    try:
        import settings

        yield settings.settings_page()
    finally:
        sys.path.remove(str(DOCS))
        sys.modules.pop("settings", None)


def rows(page, setting):
    return [line for line in page.splitlines() if f"| `{setting}` |" in line]


def test_it_is_current(page):
    assert (DOCS / "settings.md").read_text() == page, "run make docs"


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


def test_it_says_what_each_experiment_takes(page):
    [line] = [row for row in rows(page, "fig08_guided") if "yes" in row]
    assert line == "| `fig08_guided` | yes | yes | yes |  | yes |  |"
