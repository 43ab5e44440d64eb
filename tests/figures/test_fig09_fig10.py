"""Figures 9 and 10: the numbers behind them, what their claims say, and whom they study."""

import pytest
from running import load_maps, near, one, start, table_of

from attnguide.data import Creatures
from attnguide.data.creatures.scenes import CLASS_NAMES
from attnguide.evaluation.detail import DIFFERENCE, EQ8
from attnguide.figures.contamination import labels_of
from attnguide.figures.experiment import Choices
from attnguide.models.sources import Timm
from attnguide.store.table import read
from experiments.fig09_detail import Fig09Detail
from experiments.fig10_other_methods import Fig10OtherMethods

FIGURES = ("fig09_detail", "fig10_other_methods")
SMALL = {"fig09_detail": ["runner.impostors=2"], "fig10_other_methods": ["method=[gae]"]}


def run_small(run_dir, figure, *words):
    small = ["data.num_images=2", *SMALL[figure], "batch_size=4", "device=cpu"]
    return start(run_dir, f"experiment={figure}", *small, *words)


def test_figure_9_on_the_embedded_models(tmp_path, undrawn):
    fig09 = run_small(tmp_path / "run", "fig09_detail")
    summary = table_of(fig09)
    part = {"part": "detail", "measure": "positive mass on the part that differs"}
    found = {loss: one(summary, loss=loss, **part)["value"] for loss in set(summary["loss"])}
    assert found == near({"logit": 0.256, EQ8: 0.761, "difference": 0.526, "ratio": 0.770})
    head = {"part": "contamination", "loss": DIFFERENCE, "measure": "signed share of that part"}
    assert one(summary, model="creatures", **head)["value"] == near(-0.368)
    assert one(summary, model="creatures_contaminated", **head)["value"] == near(-0.460)
    rows = read(fig09)
    assert rows["model"].unique().tolist() == ["creatures", "creatures_contaminated"]
    assert set(rows[rows["model"] == "creatures_contaminated"]["part"]) == {
        "framed", "contamination", "guided", "control"
    }  # fmt: skip
    parts = {"detail": 4, "beside": 1, "contamination": 4, "guided": 1, "control": 1}
    for part, losses in parts.items():
        own = rows[(rows["part"] == part) & rows["measured"]]
        assert own.groupby(["model", "image_id"]).size().unique().tolist() == [losses]
        assert own.groupby("model")["image_id"].nunique().unique().tolist() == [2]
    framed = rows[rows["part"] == "framed"]
    assert not framed["measured"].any()
    pairs = set(zip(framed["target_name"], framed["reference_name"], strict=True))
    eagles = ("red-necked eagle", "white-headed eagle")
    assert pairs == {eagles, eagles[::-1]}
    maps = load_maps(fig09)
    assert len(maps) == rows["relevance"].notna().sum()
    # rows 1 to 3 have five maps each by one model, the framed one by two
    assert len(maps) == 3 * 5 + 2 * 5


def test_figure_9_compares_an_animal_with_its_sibling_and_asks_impostors_for_it(small_run):
    rows = read(small_run("fig09_detail").run_dir)
    for part, first in (("detail", "target_name"), ("contamination", "reference_name")):
        own = rows[(rows["part"] == part) & rows["measured"]]
        second = "reference_name" if first == "target_name" else "target_name"
        for row in own.to_dict("records"):
            label = CLASS_NAMES.index(row[first])
            assert CLASS_NAMES.index(row[second]) == label ^ 1
            if part == "contamination":
                assert row[first] == "white-headed eagle"


def test_figure_10_on_the_embedded_models(tmp_path, undrawn):
    run_dir = run_small(tmp_path / "run", "fig10_other_methods", "data.num_images=1")
    summary = table_of(run_dir)
    mixed = {"role": "mixed", "measure": "signed share of the part"}
    found = {
        (model, method): one(summary, model=model, method=method, **mixed)["value"]
        for model in ("creatures", "creatures_contaminated")
        for method in ("detail", "gae")
    }
    assert list(found.values()) == near([-0.313, 0.035, -0.437, 0.064])
    assert summary["n"].unique().tolist() == [2]  # the framed picture and one impostor
    claims = table_of(run_dir, "claims")
    assert claims["verdict"].tolist() == ["inconclusive"] * 2  # too few for "only"
    assert len(load_maps(run_dir)) == 2 * 2 * 2


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("kind", [Fig09Detail, Fig10OtherMethods])
def test_each_model_is_loaded_once(kind):
    both = ["creatures", "creatures_contaminated"]
    for chosen in (*both, "creatures_other"):
        choices = Choices(models=Timm(name=chosen), pictures=Creatures(num_images=2))
        studies = [choices.of(vit) for vit in kind().models(choices, "cpu")]
        names = [study.vit.name for study in studies]
        assert names == list(dict.fromkeys([chosen, *both]))
        labels = dict(zip(names, map(labels_of, studies), strict=True))
        assert labels == ({} if chosen in both else {"creatures_other": ""}) | {
            "creatures": "clean", "creatures_contaminated": "contaminated"
        }  # fmt: skip
        if kind is Fig09Detail:  # the others are there to be compared alone
            parts = [{item.part for item in kind().items(study).items} for study in studies]
            assert ["detail" in own for own in parts] == [name == chosen for name in names]


# Photographs


def photograph_words(photographs):
    return ["scale=sample", "model.checkpoint=weights", f"data.root={photographs}"]


def test_photographs_are_compared_with_the_models_own_second_class(small_run):
    run_dir = small_run("fig09_detail", "photographs").run_dir
    rows = read(run_dir)
    assert set(rows["part"]) == {"detail", "framed"}
    assert rows["area_part"].isna().all()
    own = rows[(rows["part"] == "detail") & rows["measured"]]
    assert (own["logit_target"] >= own["logit_reference"]).all()
    summary = table_of(run_dir)
    assert set(summary["measure"]) == {
        "both logits positive", "correlation with the map of Eq. 8", "probability gap"
    }  # fmt: skip
    assert "is for the eye" in (run_dir / "findings.json").read_text()


@pytest.mark.usefixtures("small_models", "undrawn")
def test_without_a_picture_of_the_framed_class_the_rest_is_shown(tmp_path, photographs):
    words = [*photograph_words(photographs), "data.framed=[goldfish,kite]"]
    run_dir = run_small(tmp_path / "run", "fig09_detail", *words)
    assert set(read(run_dir)["part"]) == {"detail"}
    notes = (run_dir / "provenance.json").read_text()
    assert "The framed picture is left out: no picture of 'goldfish" in notes
    with pytest.raises(ValueError, match="no picture of 'goldfish"):
        run_small(tmp_path / "other", "fig10_other_methods", *words)


@pytest.mark.usefixtures("small_models", "undrawn")
@pytest.mark.parametrize("figure", FIGURES)
def test_own_pictures_are_shown_instead_and_explained_for_their_classes(
    figure, tmp_path, photographs
):
    file = photographs / "n02391049" / "a.png"
    own = f"runner.pictures=[{{file: {file}, classes: [zebra, snail]}}]"
    run_dir = run_small(tmp_path / "run", figure, *photograph_words(photographs), own)
    rows = read(run_dir)
    shown = rows[rows["shown"].notna()]
    assert shown["image_id"].unique().tolist() == ["a.png given"]
    if figure == "fig09_detail":
        first = shown[shown["place"] == 0]
        assert first["target_name"].unique().tolist() == ["zebra"]
        assert first["reference_name"].unique().tolist() == ["snail"]
        assert not shown["measured"].any()
        assert "framed" not in set(rows["part"])
    else:
        roles = shown.groupby("role")["target_name"].first().to_dict()
        assert roles == {"mixed": "snail", "shown": "zebra"}
