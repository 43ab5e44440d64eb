"""The pages hold everything they are given, escaped, and need nothing else."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from report_example import (
    CLAIMS,
    CONFIG,
    NASTY,
    PROVENANCE,
    RELEVANCE,
    RUN,
    VIEWER,
    Page,
    drawing,
    example_findings,
    png,
)

from attnguide.findings import judgement
from attnguide.report import page as pages
from attnguide.report.index import RunRecord, index_page, read_run
from attnguide.report.page import write_report
from attnguide.report.table_view import MAX_ROWS, claim_lines
from attnguide.viz.style import render


@pytest.fixture
def findings():
    return example_findings()


@pytest.fixture
def page(findings, tmp_path):
    path = write_report(tmp_path, findings, CONFIG, PROVENANCE, VIEWER)
    assert path == tmp_path / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_everything_is_there_as_text(page):
    assert page.open == []
    for text in (
        "A title " + NASTY,
        "The claim " + NASTY,
        "Claims of the paper: 1 × does not hold, 2 × inconclusive. Claims of ours: 1 × holds.",
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
        "tiny: less on the other " + NASTY,
        "a " + NASTY,
        NASTY,
        *("48.01", "–", "−0.50", "12.25", "299", "4995", "3.25", "no"),
    ):
        assert text in page.words, text


def test_nothing_is_asked_from_outside_and_only_our_script_may_run(page, tmp_path):
    pictures = [a["src"] for _, a in page.tags if "src" in a]
    assert len(pictures) == 4
    assert all(link.startswith("data:image/png;base64,") for link in pictures)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:| style=| on\w+=[\"']", text)
    style, data, script = page.code
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    hashes = [
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for part in (style, script)
    ]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
    assert "<" not in data
    assert [a for t, a in page.tags if t == "script"] == [
        {"type": "application/json", "id": "viewer-data"}, {},
    ]  # fmt: skip


def test_files_of_the_run_are_linked(findings, tmp_path):
    for name in ("summary.csv", "a #1?.txt", ".hidden"):
        (tmp_path / name).write_bytes(bytes(2500))
    (tmp_path / "pictures").mkdir()
    page = Page(write_report(tmp_path, findings, {}, {}).read_text(encoding="utf-8"))
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert [unquote(link) for link in links] == ["a #1?.txt", "pictures/", "summary.csv"]
    assert {"2.5 kB", "0 files"} <= set(page.words)


def test_claims_are_lines_with_number_interval_n_and_bound(page):
    badges = [a["class"] for t, a in page.tags if "badge" in a.get("class", "")]
    assert badges == ["badge holds", "badge fails", "badge open", "badge open"]
    assert [str(judgement(line)) for line in CLAIMS.to_dict("records")] == [
        "0.98 [0.95, 0.99], n = 120, bound > 0.5: holds",
        "−0.030 [−0.041, −0.020], n = 120, bound < −0.05: does not hold",
        "11.6 [−5.0, 18.1], n = 8, bound > 0: inconclusive",
        "not known, n = 0, bound > 0.333: inconclusive",
    ]
    assert {", bound > 0.5", ", bound < −0.05", "(ours)"} <= set(page.words)
    assert {"0.98", "−0.030", "not known", ", n = 0"} <= set(page.words)
    assert any("Brackets hold the 95 % interval" in words for words in page.words)
    assert [line["model"] for line in claim_lines(CLAIMS[:2])] == ["", ""]


def test_many_claims_unfold_and_their_verdicts_are_counted(findings, tmp_path):
    few, many = (
        Page(write_report(tmp_path, replace(findings, claims=own), CONFIG, PROVENANCE).read_text())
        for own in (CLAIMS, pd.concat([CLAIMS] * 5))
    )
    told = "12 more claims: 3 holds, 3 does not hold, 6 inconclusive"
    assert told in many.words
    assert not any("more claims" in words for words in few.words)
    assert sum("badge" in a.get("class", "") for _, a in many.tags) == 5 * len(CLAIMS)


def test_the_viewer_holds_the_maps_as_numbers(page):
    data = json.loads(page.code[1])
    first, second = data["pictures"]
    raw = np.frombuffer(base64.b64decode(first["maps"]["gae"]["data"]), "<f4")
    assert raw.reshape(2, 3).tolist() == (-RELEVANCE).tolist()
    assert (first["maps"]["gae"]["rows"], first["maps"]["gae"]["cols"]) == (2, 3)
    assert list(second["maps"]) == ["complete"]
    assert first["maps"]["gae"]["label"] == "GAE"


def test_rows_of_single_pictures_lead_to_their_maps(page):
    links = [a["href"] for t, a in page.tags if t == "a" and "#" in a["href"]]
    assert links == ["#picture-0/gae", "#picture-1/complete"]  # the third is not shown


def test_a_picture_of_two_targets_is_linked_by_its_target():
    shown = [replace(VIEWER[0], target=target) for target in (3, 8)]
    assert pages._link(shown, {"image_id": "worst", "target": 8, "method": "x"}) == "#picture-1"
    assert pages._link(shown, {"image_id": "worst", "target": 9}) == "#picture-0"


def test_the_page_stays_small_and_says_what_is_missing(findings, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PICTURES", 220)
    text = write_report(tmp_path, findings, {}, {}, VIEWER).read_text(encoding="utf-8")
    page = Page(text)
    assert len(json.loads(page.code[1])["pictures"]) == 1
    assert any("The first 1 of 2 pictures are on this page" in words for words in page.words)


def test_figures_are_the_given_ones(page, findings, tmp_path):
    images = [a["src"].split(",")[1] for tag, a in page.tags if tag == "img" and a["alt"]]
    expected = [render(findings.figure), render(findings.figures["More to see"])]
    assert [base64.b64decode(image) for image in images] == expected
    (tmp_path / "figure.png").write_bytes(render(drawing("green")))  # as the run has written it
    page = Page(write_report(tmp_path, findings, {}, {}).read_text(encoding="utf-8"))
    image = next(a["src"].split(",")[1] for tag, a in page.tags if tag == "img")
    assert base64.b64decode(image) == (tmp_path / "figure.png").read_bytes()


def test_tables_of_every_size(findings, tmp_path):
    tables = {
        "Tiny numbers": pd.DataFrame({"p": [1.5e-5, 0.0]}),
        "Nothing": pd.DataFrame({"a": []}),
        "Flags": pd.DataFrame({"ok": [True, False], "whole": [3.0, 40.0]}),
        "Long": pd.DataFrame({"name": [f"row {i}" for i in range(MAX_ROWS + 7)]}),
        "Gaps": pd.DataFrame({"label": pd.array([None, 7], "Int64"), "name": ["x", None]}),
    }
    path = write_report(tmp_path, replace(findings, tables=tables), {}, {})
    words = Page(path.read_text(encoding="utf-8")).words
    assert {"1.5e-05", "0", "yes", "no", "3", "40", "7"} <= set(words)
    assert words.count("–") == 3  # two gaps, and one in the summary
    assert f"row {MAX_ROWS - 1}" in words
    assert f"row {MAX_ROWS}" not in words
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 7} rows." in words


def test_the_index_lists_claims_and_what_was_left_out():
    page = Page(index_page([RUN, RunRecord("other", "Figure 2")], {"bad" + NASTY: "why" + NASTY}))
    assert page.open == []
    assert {"Figure 1 " + NASTY, "claim " + NASTY, "found " + NASTY, "12", "900"} <= set(page.words)
    assert {"bad" + NASTY, "left out: why" + NASTY, "−0.030"} <= set(page.words)
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert [unquote(link) for link in links] == [
        "#run-0", "#run-1", "fig [x]#/report.html", "fig [x]#/report.html", "fig [x]#/claims.csv",
    ]  # fmt: skip
    assert not [link for link in links[2:] if "#" in link]
    badges = [a["class"] for t, a in page.tags if "badge" in a.get("class", "")]
    assert badges[:3] == ["badge holds", "badge fails", "badge open"]  # then the run's own four


def test_a_run_is_read_from_its_folder(tmp_path):
    folder = tmp_path / "fig"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="findings.json"):
        read_run(tmp_path, "fig")
    words = {"title": "T", "claim": "C", "caption": "P", "found": ["f"]}
    (folder / "findings.json").write_text(json.dumps(words))
    (folder / "provenance.json").write_text('{"seconds": 3.5}')
    (folder / "config.yaml").write_text("seed: 3")
    (folder / "summary.csv").write_text("n\n1\n")
    (folder / "figure.png").write_bytes(png())
    run = read_run(tmp_path, "fig")
    assert len(run.claims) == 0
    CLAIMS.to_csv(folder / "claims.csv", index=False)
    run = read_run(tmp_path, "fig")
    assert (run.title, run.found, run.seconds, run.peak_memory_mb) == ("T", ("f",), 3.5, None)
    assert (run.files, run.thumbnail) == (("claims.csv", "summary.csv"), "fig/figure.png")
    assert (run.config, run.summary["n"].tolist()) == ({"seed": 3}, [1])
    assert claim_lines(run.claims)[0]["value"] == "0.98"
