"""The report holds everything it is given, escaped, and needs nothing else."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from attnguide.findings import Findings
from attnguide.report.page import MAX_ROWS, write_report
from attnguide.viz.style import render, save_figure

NASTY = "<script>alert('x')</script> & \"quotes\""


def drawing(colour):
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1], color=colour)
    return figure


@pytest.fixture
def findings():
    summary = pd.DataFrame(
        {
            "method": ["complete", NASTY],
            "auc": [48.0123, float("nan")],
            "change": [-0.5, 12.25],
            "n": [299, 4995],
        }
    )
    return Findings(
        figure=drawing("red"),
        summary=summary,
        caption="The caption " + NASTY,
        found=("First sentence.", "Second " + NASTY),
        figures={"More to see": drawing("blue")},
        tables={"Another table": summary.rename(columns={"auc": NASTY})},
        title="A title " + NASTY,
        claim="The claim " + NASTY,
    )


CONFIG = {"experiment": "fig12", "model": {"name": ["a", "b"]}, "data": {"root": NASTY, "n": None}}
PROVENANCE = {"commit": "4d80e77", "dirty": False, "versions": {"torch": "2.14.1"}, "seconds": 3.25}


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture
def page(findings, tmp_path):
    path = write_report(tmp_path, findings, CONFIG, PROVENANCE)
    assert path == tmp_path / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_everything_is_there_as_text(page):
    assert page.open == []
    for text in (
        "A title " + NASTY,
        "The claim " + NASTY,
        "First sentence.",
        "Second " + NASTY,
        "The caption " + NASTY,
        "More to see",
        "Another table",
        "model.name",
        "a, b",
        "versions.torch",
        "2.14.1",
        "4d80e77",
    ):
        assert text in page.words, text
    assert not [tag for tag, _ in page.tags if tag == "script"]


def test_numbers_are_readable(page):
    cells = page.words
    assert {"48.01", "–", "−0.50", "12.25", "299", "4995", "3.25", "no"} <= set(cells)


def test_nothing_is_asked_from_outside(page, tmp_path):
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "srcset")]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:", text)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_figures_are_the_given_ones(page, findings):
    images = [a["src"].split(",")[1] for tag, a in page.tags if tag == "img"]
    expected = [render(findings.figure), render(findings.figures["More to see"])]
    assert [base64.b64decode(image) for image in images] == expected


def test_the_figure_that_the_run_has_written_is_shown(findings, tmp_path):
    save_figure(drawing("green"), tmp_path)
    page = Page(write_report(tmp_path, findings, {}, {}).read_text(encoding="utf-8"))
    image = next(a["src"].split(",")[1] for tag, a in page.tags if tag == "img")
    assert base64.b64decode(image) == (tmp_path / "figure.png").read_bytes()


def test_it_serves_phones_and_dark_rooms(page, tmp_path):
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in page.tags
    alternatives = [a["alt"] for tag, a in page.tags if tag == "img"]
    assert alternatives == ["The caption " + NASTY, "More to see"]


def test_long_tables_are_cut_and_say_so(findings, tmp_path):
    table = pd.DataFrame({"name": [f"row {i}" for i in range(MAX_ROWS + 7)], "x": np.arange(207.0)})
    path = write_report(tmp_path, replace(findings, tables={"Long": table}), {}, {})
    words = Page(path.read_text(encoding="utf-8")).words
    assert f"row {MAX_ROWS - 1}" in words
    assert f"row {MAX_ROWS}" not in words
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 7} rows." in words


def test_small_and_empty_tables(findings, tmp_path):
    tables = {
        "Tiny numbers": pd.DataFrame({"p": [1.5e-5, 0.0]}),
        "Nothing": pd.DataFrame({"a": []}),
        "Flags": pd.DataFrame({"ok": [True, False], "whole": [3.0, 40.0]}),
        "Gaps": pd.DataFrame({"label": pd.array([None, 7], "Int64"), "name": ["x", None]}),
    }
    path = write_report(tmp_path, replace(findings, tables=tables), {}, {})
    words = Page(path.read_text(encoding="utf-8")).words
    assert {"1.5e-05", "0", "yes", "no", "3", "40", "7"} <= set(words)
    assert words.count("–") == 3  # two gaps, and one in the summary
