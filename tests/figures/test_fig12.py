"""Figure 12 from one command: its rows, its table, its words, in any folder of photographs."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from running import start
from safetensors.torch import save_file

from attnguide import explain, load_model, perturb, stitch
from attnguide.data import Creatures
from attnguide.data.creatures.scenes import guide, single
from attnguide.figures.claims import Table, judge
from attnguide.figures.experiment import Study
from attnguide.figures.perturbation_figure import claims_about, seam_notes, untestable
from attnguide.guides import Guide
from attnguide.models.sources import Timm
from experiments.fig12_perturbation import Fig12Perturbation

COLUMNS = ["method", "order", "quantity", "auc", "ci_low", "ci_high", "n"]


WORDS = [
    *("experiment=fig12_perturbation", "data.num_images=9", "batch_size=4", "device=cpu"),
    "runner.fractions=[0.0,0.3,0.9]",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return start(tmp_path_factory.mktemp("fig12") / "run", *WORDS)


def test_rows_are_what_the_library_says(finished):
    rows = pd.read_parquet(finished / "results.parquet")
    guided = rows[rows["guide"] == "right"]
    # nine creatures, classes 0 to 8; the guide is the spiral-shelled snail, class 6
    assert sorted(guided["label"].unique()) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert len(guided) == 8 * 4 * 2 * 3
    assert rows[rows["guide"] == "none"]["image_id"].nunique() == 3
    vit = load_model("creatures")
    pictures = [single(0, 4, 4).to_pil(), guide(6).to_pil()]
    own, beside = (vit.preprocess.normalize(picture) for picture in pictures)
    images, _ = stitch(own.unsqueeze(0), beside, patch_size=8)
    relevance = explain(vit, images, 4).relevance
    curve = perturb(vit, images, relevance, 4, order="negative", fractions=[0, 0.3, 0.9])
    part = guided[
        (guided["label"] == 4) & (guided["method"] == "complete") & (guided["order"] == "negative")
    ].sort_values("fraction")
    assert part["probability"].tolist() == pytest.approx(curve.probability[0].tolist(), abs=1e-4)
    assert part["correct"].tolist() == curve.correct[0].tolist()


def test_it_is_drawn_again_as_wide_as_asked(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / "run")
    start(run_dir, "stage=draw", "figure.width=3.5")
    with Image.open(run_dir / "figure.png") as figure, Image.open(finished / "figure.png") as first:
        assert figure.width == 700 < first.width
    for name in ("summary.csv", "claims.csv", "config.yaml"):
        assert (run_dir / name).read_bytes() == (finished / name).read_bytes()


def test_table_figure_and_report_are_written(finished):
    summary = pd.read_csv(finished / "summary.csv")
    assert list(summary.columns[:7]) == COLUMNS
    assert set(summary["method"]) == {"complete", "gae", "seam", "random"}
    assert (summary["n"] == 8).all()
    areas = summary[summary["order"].notna()]
    assert areas[["auc", "ci_low", "ci_high"]].to_numpy().min() >= 0
    means = summary.fillna({"order": ""}).set_index(["method", "quantity", "order"])["auc"]
    for method in ("complete", "gae", "seam", "random"):
        least, most = (means[method, "accuracy", order] for order in ("negative", "positive"))
        assert means[method, "srg", ""] == pytest.approx(least - most)
        assert means[method, "auc_chefer", "negative"] == pytest.approx(0.9 * least)
        assert means[method, "abpc", ""] < 100
    with Image.open(finished / "figure.png") as figure:
        assert figure.size[0] > 800
    report = (finished / "report.html").read_text()
    assert "complete minus GAE" in report
    assert "The study without a guide" in report
    claims = pd.read_csv(finished / "claims.csv")
    assert set(claims["verdict"]) == {"inconclusive"}  # of eight pictures
    guided = claims[~claims["id"].str.endswith(".alone")]
    expected = ["complete_minus_gae.negative", "complete_minus_seam.negative", "guide_first.gae"]
    assert {f"fig12.{name}" for name in expected} <= set(guided["id"])
    assert not claims["id"].str.contains("(?:seam|guide_first).*alone").any()
    assert set(guided["n"]) == {8}
    assert "its share of the gain over GAE: " in report


def test_any_timm_vit_on_any_wnid_folder(tmp_path):
    """scale=sample in small: random weights of 1,000 classes, four pictures, a zebra as guide."""
    module = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    torch.manual_seed(0)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    for number, wnid in enumerate(["n01440764", "n01443537", "n02391049", "n02129165"]):
        folder = tmp_path / "pictures" / wnid
        folder.mkdir(parents=True)
        Image.effect_noise((60, 40), 40 + number).convert("RGB").save(folder / f"{wnid}_1.JPEG")
    weights = str(tmp_path / "weights.safetensors")
    words = [*WORDS, "scale=sample", f"model.checkpoint={weights}"]
    words += [f"data.root={tmp_path / 'pictures'}"]
    with pytest.raises(ValueError, match="do not fit vit_tiny_patch16_224"):
        start(tmp_path / "run", *words)
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    start(tmp_path / "run", *words)
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    assert sorted(rows["label"].unique()) == [0, 1, 291]


@pytest.mark.parametrize(
    ("word", "message"),
    [("guide.image=zebbra", "no picture file"), ("guide.fraction=0.3", "nearest valid fraction")],
)
def test_a_guide_that_does_not_fit_is_refused(tmp_path, word, message):
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", *WORDS, word)


def test_every_nth_picture_is_studied_alone_by_its_place_in_the_whole_list(creatures):
    """Pictures of the guide's class are left out first; the count goes on over them."""
    pictures, figure = Creatures(num_images=20), Fig12Perturbation(unguided_every=4)
    study = Study(models=Timm(name="creatures"), pictures=pictures, vit=creatures, guide=Guide())
    items = figure.items(study).items
    assert [item.id for item in items] == [f"creatures-0-{n}" for n in range(20) if n != 6]
    views = [figure.inputs(study, item, item.load()) for item in items]
    assert ["none" in own for own in views] == [number % 4 == 0 for number in range(19)]
    assert all("right" in own for own in views)


def toy_rows(kept):
    """Twelve images; `kept` says by method up to which fraction they stay right, least first."""
    fractions = [0.0, 0.25, 0.5, 0.75, 1.0]
    return pd.DataFrame(
        {
            "image_id": f"image {number}", "model": "toy", "method": method, "order": order,
            "fraction": fraction, "measured": True,
            "correct": order == "negative" and fraction <= least, "probability": 0.5,
        }
        for number in range(12)
        for method, least in kept.items()
        for order in ("negative", "positive")
        for fraction in fractions
    )  # fmt: skip


def judged(kept, guided=False):
    rows = toy_rows(kept)
    if guided:  # complete masks the guide first, the others half of it
        rows["on_guide"] = rows["method"].map({"complete": 1.0, "seam": 1.0}).fillna(0.5)
    table = Table(rows, {}, 0, "without a guide", "alone")
    methods = [name for name in kept if name != "seam"]
    claims = judge(claims_about(methods, [0.0, 0.25], 0.5), [("toy", table)])
    return claims.set_index("id")


def test_seam_stands_beside_the_gain_and_what_cannot_be_told_is_not_asked():
    claims = judged({"complete": 1.0, "gae": 0.5, "seam": 0.75}, guided=True)
    found = claims["value"].rename(lambda name: name.removeprefix("fig12.").removesuffix(".alone"))
    assert found["complete_minus_gae.negative"] == pytest.approx(75 / 2)
    assert found["complete_minus_seam.negative"] == pytest.approx(25 / 2)
    assert found["seam_minus_gae.negative"] == pytest.approx(25)
    assert found["seam_share"] == pytest.approx(2 / 3)
    assert found["guide_first.complete"] == 1
    assert found["guide_first.gae"] == 0.5
    assert claims.loc["fig12.seam_share.alone", "verdict"] == "holds"
    # positive curves are 0 from the start and negative ones begin at 100 %
    assert not claims.index.str.contains("positive|rise").any()
    table = Table(toy_rows({"complete": 1.0, "gae": 0.5, "seam": 0.75}), {}, 0, "beside a guide")
    floor, start = untestable(["complete", "gae"], [("toy", table)])
    assert "in the positive test complete and GAE lose the class with the first patches" in floor
    assert "recognition starts near 100 %" in start
    [sentence] = seam_notes("complete", [("toy", table)])
    assert "seam minus GAE +25.0" in sentence
    assert "its share of the gain over GAE: 0.67 [0.67, 0.67], n = 12" in sentence
    four = table.rows[table.rows["image_id"].isin([f"image {number}" for number in range(4)])]
    [sentence] = seam_notes("complete", [("toy", replace(table, rows=four))])
    assert "its share of the gain over GAE: not known." in sentence  # too few for an interval


def test_without_a_gain_seam_has_no_share_of_it():
    claims = judged({"complete": 0.5, "gae": 0.5, "seam": 0.75}, guided=True)
    assert "fig12.seam_minus_gae.negative.alone" in claims.index
    assert "fig12.seam_share.alone" not in claims.index


def test_a_corrected_gradient_is_judged_against_its_method_and_gae():
    kept = {"complete": 0.25, "gae": 0.75, "complete_libra": 0.5, "gae_libra": 1.0}
    claims = judged(kept)
    expected = {
        "complete_libra_minus_complete": (25, "holds"),
        "complete_libra_minus_gae": (-25, "does not hold"),
        "gae_libra_minus_gae": (25 / 2, "holds"),
    }
    for name, (value, verdict) in expected.items():
        line = claims.loc[f"fig12.{name}.srg.alone"]
        assert (line["value"], line["n"]) == (pytest.approx(value), 12)
        assert line["verdict"] == verdict
    assert claims.index.str.contains("srg").sum() == len(expected)
    others = judged({name: kept[name] for name in ("complete", "gae")})
    assert not others.index.str.contains("srg").any()
