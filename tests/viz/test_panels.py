"""Figures hold what they are given, in place, with no text cut off or lying on other text."""

import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from PIL import Image

from attnguide.figures.descent_figure import animation
from attnguide.viz.charts import (
    Curve,
    CurvePanel,
    Dot,
    DotPanel,
    HeatPanel,
    draw_curves,
    draw_dots,
    draw_heat,
)
from attnguide.viz.panels import RED_FRAME, Panel, draw_panels, wrap
from attnguide.viz.style import FigureSettings, drawn_with, method_style, render, without_wnid

GREY = np.full((32, 32, 3), 0.5)


def panel(**options):
    return Panel(GREY, np.array([[1.0, -1.0], [0.0, 0.5]]), **options)


def texts(figure):
    """Every text of a figure with its box in pixels, but those of ticks, some beyond an axis."""
    FigureCanvasAgg(figure).draw()
    found = {id(t): t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()}
    for axis in figure.findobj(Axis):
        for label in axis.get_ticklabels():
            found.pop(id(label), None)
    return [(t.get_text(), t.get_window_extent()) for t in found.values()]


def long_figure():
    name = "Tibetan_terrier_ILSVRC2012_val_00000293.JPEG"
    rows = [
        [Panel(GREY), panel(note="p = 0.912\nlogit 11.15", title="African elephant of the bush")],
        [Panel(GREY), panel(frame=RED_FRAME, note="p = 0.1")],
    ]
    return draw_panels(
        rows,
        column_titles=["image", "absolute gradient correction of the attention"],
        row_titles=[name, "the second row's very long class name indeed"],
        title="A title longer than two panels are wide",
    )


def curve(method, height, **options):
    fraction = np.linspace(0, 0.9, 10)
    mean = height * (1 - fraction)
    band = {"value": mean, "ci_low": mean - 3, "ci_high": mean + 3}
    return Curve(method, pd.DataFrame(band, index=fraction), (41.26, 39.9, 43.0), **options)


def curve_figure():
    negative = CurvePanel("(a) negative", "recognition rate (%)", True, [curve("complete", 90)])
    positive = CurvePanel(
        "(b) positive", "recognition rate (%)", False, [curve("complete", 50), curve("random", 80)]
    )
    return draw_curves([[negative, positive]])


def plot_figure():
    def plot(axes):
        for values in ([0, 1], [1, 0]):
            axes.plot([0, 1], values, label=f"to {values[1]}")
        axes.set(xlabel="step", ylabel="share", title="plot")
        axes.legend()

    return draw_panels([[Panel(GREY), panel(note="a\nb")] * 2], below=[[plot] * 2] * 2)


def dot_figure():
    rows = [
        (name, [Dot(method, 0.5, 0.25, 0.75) for method in ("complete", "integrated_gradients")])
        for name in ("sign right on the target", "mass")
    ]
    return draw_dots([DotPanel("of a model (n = 3)", "share", rows)] * 3)


@pytest.mark.parametrize("draw", [long_figure, curve_figure, plot_figure, dot_figure])
def test_no_text_lies_on_another_or_on_a_picture(draw):
    figure = draw()
    boxes = texts(figure)
    assert len(boxes) > 8
    for (first, a), (second, b) in combinations(boxes, 2):
        assert not a.padded(-1.5).overlaps(b.padded(-1.5)), (first, second)
    pictures = [axes.get_window_extent() for axes in figure.axes if axes.images]
    for text, box in boxes:
        assert not any(box.padded(-1.5).overlaps(p) for p in pictures), text


def test_pictures_are_where_their_row_and_column_say():
    red, blue = np.zeros((8, 8, 3)), np.zeros((8, 8, 3))
    red[..., 0], blue[..., 2] = 1, 1
    figure = draw_panels([[Panel(red), None], [None, Panel(blue)]])
    shown = np.asarray(Image.open(io.BytesIO(render(figure))).convert("RGB")).astype(int)
    height, width = shown.shape[:2]
    quarter = [shown[y * height // 4, x * width // 4] for y in (1, 3) for x in (1, 3)]
    # The empty strip of the colour bar at the right is cut away, since no panel has a map.
    assert quarter[0].tolist() == [255, 0, 0]
    assert quarter[3].tolist() == [0, 0, 255]
    assert quarter[1].tolist() == quarter[2].tolist() == [255, 255, 255]


def test_frame_is_drawn_around_the_panel_that_asks_for_it():
    figure = draw_panels([[panel(), panel(frame=RED_FRAME)]])
    plain, framed = (axes.spines["left"] for axes in figure.axes[:2])
    assert framed.get_edgecolor()[:3] == pytest.approx([0xC4 / 255, 0x26 / 255, 0x2E / 255])
    assert framed.get_linewidth() > 2 * plain.get_linewidth()


def test_colour_bar_is_symmetric_and_only_there_for_maps():
    with_map = draw_panels([[Panel(GREY), panel()]])
    [bar] = with_map.axes[1].child_axes
    assert [text.get_text() for text in bar.get_yticklabels()] == ["−1", "0", "1"]
    assert not draw_panels([[Panel(GREY)]]).axes[0].child_axes


def test_a_table_of_colours_says_what_colours_mean_with_true_minus_signs():
    values = pd.DataFrame({"x": [1.0, np.nan], "y": [-0.5, -0.001]}, index=["a", "b"])
    words = {text for text, _ in texts(draw_heat([HeatPanel("likeness", values)]))}
    own = {"likeness", "1, alike", "−1, opposite", "1.00", "−0.50", "0.00"}
    assert words == {*own, "missing"}
    whole = draw_heat([HeatPanel("", values.dropna(), legend=("better", "worse"))])
    assert {text for text, _ in texts(whole)} == {"better", "worse", "1.00", "−0.50"}


def test_titles_must_match_rows_and_columns():
    with pytest.raises(ValueError, match="2 column titles"):
        draw_panels([[panel(), panel()]], column_titles=["one"])
    with pytest.raises(ValueError, match="1 row titles"):
        draw_panels([[panel()]], row_titles=["one", "two"])
    with pytest.raises(ValueError, match="at least one panel"):
        draw_panels([[None]])


def test_wrapping_keeps_every_word_and_fits_the_width():
    text = "a few short words and Donaudampfschifffahrtsgesellschaftskapitaen\nnext $5 line"
    lines = wrap(text, 1.0, 8)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert "next $5 line" in lines
    assert max(TextPath((0, 0), line, size=8).get_extents().width for line in lines[:-1]) < 75
    assert len(wrap(text, 50.0, 8)) == 2


def test_curves_stand_over_percent_with_bands_and_areas():
    figure = curve_figure()
    axes = figure.axes[0]
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_xdata(), np.arange(0, 91, 10))
    np.testing.assert_allclose(line.get_ydata(), 90 * (1 - np.arange(10) / 10))
    assert line.get_color() == method_style("complete").colour
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(93)
    words = [text for text, _ in texts(figure)]
    assert any("41.3" in text and "39.9" in text and "43.0" in text for text in words)
    assert {"random", "↑ higher is better", "↓ lower is better"} <= set(words)
    low, high = figure.axes[0].get_ylim()
    assert figure.axes[1].get_ylim() == (low, high)  # the panels of a row share their scale
    assert low == 0
    assert 93 < high < 110


def test_more_than_four_curves_are_lines_with_names_at_their_ends():
    names = ["complete", "absolute", "rollout", "centred", "random", "seam"]
    curves = [curve(method, 90 + number) for number, method in enumerate(names)]
    figure = draw_curves([[CurvePanel("", "", True, curves)]])
    axes = figure.axes[0]
    assert not axes.collections
    FigureCanvasAgg(figure).draw()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to them
    right = axes.get_window_extent().x1
    assert [text.get_text() for text in axes.texts] == names  # as the lines end
    assert all(box.x0 > right for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_files_of_imagenet_are_called_by_their_classes():
    text = "1/x.png beside n02443484/n02443484_black-footed_ferret.JPEG+n02123159_tiger_cat: fox"
    assert without_wnid(text) == "1/x.png beside black-footed ferret+tiger cat: fox"


def eight_figure():
    """As wide as Figure 8: five columns, of two pictures."""
    note = "picture +0.44, guide \N{MINUS SIGN}0.54"
    rows = [[Panel(GREY, title="trunk-nosed tapir"), *[panel(note=note)] * 4]] * 2
    titles = ["image", "complete, alone", "guided", "complete, guided", "GAE, guided"]
    return draw_panels(rows, column_titles=titles, letters=True)


def twelve_figure():
    curves = [curve(method, 90) for method in ("complete", "gae", "seam", "random")]
    sides = [CurvePanel(f"creatures: {o}", "recognition rate (%)", True, curves) for o in "np"]
    return draw_curves([sides, sides])


@pytest.mark.parametrize("draw", [eight_figure, twelve_figure])
def test_a_figure_is_as_wide_as_a_column_and_can_be_read(draw):
    assert Image.open(io.BytesIO(render(draw()))).width > 1000
    with drawn_with(FigureSettings(width=3.5)):
        figure = draw()
        picture = Image.open(io.BytesIO(render(figure)))
        found = texts(figure)
    assert picture.width == 3.5 * 200
    assert picture.height < 11 * 200
    edge = figure.bbox.width + 1
    for (text, box), (other, beside) in combinations(found, 2):
        assert not box.overlaps(beside), (text, other)
    assert all(box.x0 >= -1 and box.x1 <= edge for _, box in found)
    assert all(text.get_size() >= 7 for text in figure.findobj(Text) if text.get_text())
    assert min(axes.get_window_extent().width for axes in figure.axes[:8]) > 0.75 * figure.dpi


def test_columns_that_do_not_fit_follow_below_in_their_order():
    with drawn_with(FigureSettings(width=3.5)):
        words = [text.replace("\n", " ") for text, _ in texts(eight_figure())]
    titles = [word for word in words if word.startswith("(")]
    assert titles == ["(a) image", "(b) complete, alone", "(c) guided", "(d) complete, guided",
                      "(e) GAE, guided"]  # fmt: skip
    assert words.count("picture +0.44, guide \N{MINUS SIGN}0.54".replace(" +", "\xa0+").replace(
        " \N{MINUS SIGN}", "\xa0\N{MINUS SIGN}")) == 8  # fmt: skip


def test_a_pdf_has_the_same_bytes_every_time():
    content = render(long_figure(), "pdf")
    assert content.startswith(b"%PDF")
    assert content == render(long_figure(), "pdf")


def test_letters_stand_before_the_titles_of_columns():
    titles = ["image", "GAE", "complete"]
    figure = draw_panels([[panel()] * 3], column_titles=titles, letters=True)
    words = [text for text, _ in texts(figure)]
    assert {"(a) image", "(b) GAE", "(c) complete"} <= set(words)


def test_frames_of_an_animation_show_their_panels_and_stand_as_long_as_they_should():
    def frame(colour, note):
        picture = np.zeros((8, 8, 3))
        picture[..., colour] = 1
        return [[Panel(picture, note=note)]]

    content = animation([frame(0, "one"), frame(1, "one\ntwo"), frame(2, "")], ["a", "b", "c"])
    with Image.open(io.BytesIO(content)) as film:
        assert (film.n_frames, film.info["loop"]) == (3, 0)
        middles, pauses = [], []
        for number in range(3):
            film.seek(number)
            pauses.append(film.info["duration"])
            shown = np.asarray(film.convert("RGB")).astype(int)
            middles.append(shown[film.height // 2, 60].tolist())
    assert pauses == [1200, 180, 1800]
    assert [middle.index(max(middle)) for middle in (middles[0], middles[2])] == [0, 2]


@pytest.mark.parametrize("draw", [long_figure, dot_figure])
def test_nobodys_matplotlibrc_changes_a_figure_and_drawing_changes_no_setting(draw):
    import matplotlib as mpl

    expected = render(draw())
    theirs = {
        "axes.grid": True, "axes.facecolor": "black", "lines.linewidth": 9, "image.origin": "lower",
        "figure.facecolor": "blue", "savefig.dpi": 30, "axes.spines.top": False,
        "xtick.direction": "in", "axes.unicode_minus": False, "legend.frameon": True,
    }  # fmt: skip
    with mpl.rc_context(theirs):
        before = dict(mpl.rcParams)
        assert render(draw()) == expected
        assert dict(mpl.rcParams) == before
