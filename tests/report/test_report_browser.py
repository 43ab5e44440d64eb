"""The pages in a real browser: they work by mouse and keys, and run nothing of the data."""

import numpy as np
import pytest
from chromium import PROGRAM, REASON, Browser
from report_example import (
    CONFIG,
    NASTY,
    PROVENANCE,
    RELEVANCE,
    RUN,
    VIEWER,
    example_findings,
    png,
)

from attnguide.report.index import index_page
from attnguide.report.page import write_report
from attnguide.viz.style import relevance_colours


@pytest.fixture
def page(tmp_path):
    """The address of a report."""
    return write_report(tmp_path, example_findings(), CONFIG, PROVENANCE, VIEWER).as_uri()


@pytest.fixture
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip(REASON)
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def quiet(browser):
    """Whether the page told of no error and asked for nothing."""
    return browser.complaints() == ([], [])


def test_the_page_works_and_runs_nothing_of_the_data(browser, page):
    browser.open(page)
    assert quiet(browser)
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.title") == "A title " + NASTY
    cells = "[...document.querySelectorAll('[aria-label=\"Summary\"] td:nth-child(4)')]"
    read = f"{cells}.map((cell) => cell.textContent)"
    click = "document.querySelectorAll('[aria-label=\"Summary\"] th button')[3].click()"
    assert browser.run(f"{click}; {read}") == ["4995", "299"]
    assert browser.run(f"{click}; {read}") == ["299", "4995"]
    sort = browser.run("[...document.querySelectorAll('th')].map((h) => h.ariaSort)")
    assert sort.count("ascending") == 1


def pixel(browser, x, y):
    """Colour of the stage at a share of its width and height."""
    at = f"[Math.floor({x} * s.width), Math.floor({y} * s.height), 1, 1]"
    code = "(() => { const s = document.getElementById('stage'); return [...s.getContext('2d')"
    return browser.run(f"{code}.getImageData(...{at}).data] }})()")[:3]


def test_the_map_is_drawn_in_our_colours_and_read_by_mouse_and_keys(browser, page):
    browser.open(page)
    value = "document.getElementById('viewer-value').textContent"
    set_to = "(id, v) => { const e = document.getElementById(id); e.type === 'checkbox' ? "
    set_to = f"({set_to}e.checked = v : e.value = v; e.dispatchEvent(new Event('input')) }})"
    browser.run(f"{set_to}('patches', true); {set_to}('opacity', 100)")
    middles = [((col + 0.5) / 3, (row + 0.5) / 2) for row in range(2) for col in range(3)]
    expected = 255 * relevance_colours(RELEVANCE.ravel() / 2)
    for (x, y), colour in zip(middles, expected, strict=True):
        np.testing.assert_allclose(pixel(browser, x, y), colour, atol=2)
    browser.run(f"{set_to}('opacity', 0)")
    np.testing.assert_allclose(pixel(browser, *middles[0]), [0, 128, 0], atol=2)
    browser.run("document.getElementById('viewer').scrollIntoView()")
    box = browser.run(
        "Object.values(document.getElementById('stage').getBoundingClientRect().toJSON())"
    )
    left, top, width, height = box[:4]
    browser.mouse("mouseMoved", left + width / 2, top + height / 4)
    assert browser.run(value) == "row 1, column 2: S = −2.00, S / max|S| = −1.00 (against)"
    browser.run("document.getElementById('stage').focus()")
    browser.press("ArrowDown")
    assert browser.run(value) == "row 2, column 2: S = 0.250, S / max|S| = 0.13 (for)"
    browser.press("+")
    assert browser.run("document.getElementById('zoom').value") == "2"
    browser.run("document.querySelector('input[value=gae]').click()")
    assert browser.run(value) == "row 2, column 2: S = −0.250, S / max|S| = −0.13 (against)"
    assert quiet(browser)


def test_a_row_leads_to_its_map(browser, page):
    browser.open(page)
    browser.run("document.querySelector('a[href$=\"/gae\"]').click()")
    label = "document.getElementById('stage').getAttribute('aria-label')"
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(label) == "gae map over a snail"
    pressed = "[...document.querySelectorAll('.thumbs button')].map((b) => b.ariaPressed)"
    browser.run("document.getElementById('picture-1').click()")
    assert browser.run(pressed) == ["false", "true"]
    assert browser.run(label) == f"complete map over a {NASTY}"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_and_words_can_be_read(browser, page, dark, width):
    browser.open(page, dark=dark, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    contrast = """(() => {
      const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const page = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll("p, li, td, th, h1, h2, a, span.badge, figcaption")]
        .map((e) => [light(getComputedStyle(e).color), page].sort())
        .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    })()"""
    assert min(browser.run(contrast)) > 4.5


def test_print_shows_what_is_folded_and_hides_the_viewer(browser, page):
    browser.open(page)
    browser.send("Emulation.setEmulatedMedia", media="print")
    height = "document.querySelector('.facts').getBoundingClientRect().height > 20"
    assert browser.run(height)
    for name in (".viewer", "#viewer-help", "#pictures"):
        assert browser.run(f"document.querySelector('{name}').offsetParent === null"), name


def test_the_index_shows_its_figures(browser, tmp_path):
    (tmp_path / RUN.name).mkdir()
    (tmp_path / RUN.thumbnail).write_bytes(png())
    (tmp_path / "index.html").write_text(index_page([RUN]), encoding="utf-8")
    browser.open((tmp_path / "index.html").as_uri())
    browser.run("document.images[0].scrollIntoView()")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    assert browser.run("document.images[0].naturalWidth") == 6
    assert quiet(browser)
