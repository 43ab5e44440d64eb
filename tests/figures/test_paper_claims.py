"""Every claim of Figures 2 to 7 and 13 on constructed rows: where the paper is right, it holds."""

from types import SimpleNamespace

import pandas as pd
import pytest

from attnguide.evaluation.intervention_rows import MEASURES
from attnguide.figures.claims import Table, judge
from experiments.fig02_pipeline import Fig02Pipeline
from experiments.fig03_gradient_corrections import Fig03GradientCorrections
from experiments.fig04_encoder_mechanism import Fig04EncoderMechanism
from experiments.fig05_multi_class import Fig05MultiClass
from experiments.fig06_attention_transfer import Fig06AttentionTransfer
from experiments.fig07_single_class import Fig07SingleClass
from experiments.fig13_method_comparison import PAPER_RIVALS, Fig13MethodComparison

NAMES = ("target", "other", "background")


def masses(method, target, other, background, area=(0.2, 0.2, 0.6), role="target", r=None, n=12):
    """Rows of n pictures: positive and negative mass on each region, the area that it takes."""
    row = {"method": method, "role": role, "correlation": r, "regions": "masks"}
    for name, (positive, negative), size in zip(NAMES, (target, other, background), area,
                                                strict=True):  # fmt: skip
        row |= {f"positive_{name}": positive, f"negative_{name}": negative, f"area_{name}": size}
    for sign in ("positive", "negative"):
        row[sign] = sum(row[f"{sign}_{name}"] for name in NAMES)
    return pd.DataFrame([row | {"image_id": str(number)} for number in range(n)])


def alike(method, r):
    """Rows of the maps of two other classes, so like the label's."""
    empty = ((1, 0),) * 3
    return [masses(method, *empty, role=role, r=r) for role in ("runner-up", "absent")]


def verdicts(figure, *parts):
    """Of the paper's claims and of ours, by the id without the figure."""
    rows = pd.concat(parts, ignore_index=True)
    methods = list(dict.fromkeys(rows.get("method", ())))
    claims = figure.claims_of(SimpleNamespace(methods=methods))
    found = judge(claims, [("m", Table(rows, figure.all_measures()))])
    found["name"] = found["id"].str.partition(".")[2]
    return {source: own.set_index("name")["verdict"].to_dict()
            for source, own in found.groupby("source")}  # fmt: skip


def test_figure_2_asks_whether_the_product_adds_to_a_sum():
    rows = pd.DataFrame({"image_id": list("abcdefghijkl"), "gap": 1e-7, "negative": 0.5})
    right = verdicts(Fig02Pipeline(), rows.assign(first_order=0.4))
    assert right["paper"] == {"product": "holds", "class_row": "holds"}
    wrong = verdicts(Fig02Pipeline(), rows.assign(first_order=0.99))
    assert wrong["paper"] == {"product": "does not hold", "class_row": "holds"}


ALONE_BAD = masses("complete", (1, 2), (0, 0), (1, 3), area=(0.4, 0, 0.6))
ALONE_GOOD = masses("complete", (3, 0.1), (0, 0), (1, 0), area=(0.4, 0, 0.6), n=60)


def test_figure_3_says_that_absolute_is_blind_and_complete_fails_on_one_class():
    names = {"class_blind.absolute.runner_up", "class_blind.absolute.absent", "alone.whole",
             "alone.sign", "alone.full"}  # fmt: skip
    one = masses("absolute", (1, 0), (0, 0), (1, 0))
    right = verdicts(Fig03GradientCorrections(), one, ALONE_BAD, *alike("absolute", 0.9),
                     *alike("complete", -0.5))  # fmt: skip
    assert right["paper"] == dict.fromkeys(names, "holds")
    assert set(right["ours"].values()) == {"holds"}
    wrong = verdicts(Fig03GradientCorrections(), one, ALONE_GOOD, *alike("absolute", 0.1),
                     *alike("complete", 0.9))  # fmt: skip
    assert wrong["paper"] == dict.fromkeys(names, "does not hold")


def test_on_photographs_of_one_class_the_sign_of_the_whole_map_is_judged():
    unknown = {f"{kind}_{name}": float("nan") for kind in ("positive", "negative", "area")
               for name in NAMES}  # fmt: skip
    found = verdicts(Fig07SingleClass(), ALONE_BAD.assign(**unknown, regions=""))
    assert found["paper"] == {"alone.whole": "holds"}


def test_figure_4_says_that_gae_tells_classes_apart_and_absolute_ignores_the_background():
    names = {"class_blind.absolute.runner_up", "class_blind.absolute.absent",
             "tells_apart.gae.runner_up", "tells_apart.gae.absent", "density", "mass"}  # fmt: skip
    on_objects = masses("absolute", (19, 0), (0, 0), (1, 0))
    anywhere = masses("absolute", (1, 0), (1, 0), (8, 0))
    right = verdicts(Fig04EncoderMechanism(), on_objects, *alike("absolute", 0.9),
                     *alike("gae", 0.2))  # fmt: skip
    assert right["paper"] == dict.fromkeys(names, "holds")
    wrong = verdicts(Fig04EncoderMechanism(), anywhere, *alike("absolute", 0.2),
                     *alike("gae", 0.9))  # fmt: skip
    assert wrong["paper"] == dict.fromkeys(names, "does not hold")


def test_figure_5_compares_the_mass_on_the_other_and_on_the_background():
    good, bad = ((8, 0), (0, 6), (1, 1)), ((2, 0), (5, 0), (3, 0))
    names = {"both_signs", "on_the_other", "on_the_background"}
    for complete, gae, verdict in ((good, bad, "holds"), (bad, good, "does not hold")):
        found = verdicts(Fig05MultiClass(), masses("complete", *complete), masses("gae", *gae))
        assert found["paper"] == dict.fromkeys(names, verdict)
    few = verdicts(Fig05MultiClass(), masses("complete", *good, n=9), masses("gae", *bad, n=9))
    assert few["paper"] == dict.fromkeys(names, "inconclusive")
    alone = verdicts(Fig05MultiClass(), masses("complete", *good))
    assert alone["paper"] == {"both_signs": "holds"}  # a method that was not run is not judged
    full = [masses(name, *good[:2], (0, 0), area=(0.5, 0.5, 0)) for name in ("complete", "gae")]
    assert set(verdicts(Fig05MultiClass(), *full)["paper"]) == names - {"on_the_background"}


def test_figure_6_judges_the_end_the_flip_and_the_first_map():
    right = {"begins": 1, "crossed": 1, "share_target_change": -0.5, "share_other_change": 0.5,
             "share_target_flip": -0.1, "share_other_flip": 0.1, "crossed_flip": 1,
             "others_stays": 1, "overlap": 0.9, "like_own": 0.99}  # fmt: skip
    wrong = {name: 1 - value if value in (0, 1) else -value for name, value in right.items()}
    names = {"target_falls", "other_rises", "crosses", "other_stays", "overlap", "like_own",
             "flip.target_falls", "flip.other_rises", "flip.crosses"}  # fmt: skip
    figure = Fig06AttentionTransfer()
    assert figure.measures is MEASURES
    for values, verdict in ((right, "holds"), (wrong, "does not hold")):
        rows = pd.DataFrame([values | {"image_id": str(n), "lr": "0.0004"} for n in range(12)])
        assert verdicts(figure, rows)["paper"] == dict.fromkeys(names, verdict)
    other_rate = verdicts(figure, rows.assign(lr="0.004"))["paper"]
    assert set(other_rate) == names - {"like_own"}  # the first maps are the same


def test_figure_7_asks_where_the_negative_mass_lies():
    away = verdicts(Fig07SingleClass(), masses("complete", (4, 1), (0, 0), (1, 3)))
    assert away["paper"]["towards_background"] == "holds"
    assert away["ours"] == {"towards_background.beyond_area": "holds"}
    inside = verdicts(Fig07SingleClass(), masses("complete", (1, 3), (0, 0), (1, 1)))
    assert inside["paper"]["towards_background"] == "does not hold"
    assert inside["ours"] == {"towards_background.beyond_area": "does not hold"}


SIGNED, UNSIGNED = ((8, 0), (0, 6), (1, 1)), ((8, 0), (6, 0), (1, 0))


def of_methods(signed, unsigned, n=12):
    """Rows of methods that have both signs right, and of methods that have not; r between maps."""
    parts = [masses(method, *SIGNED, r=-0.5, n=n) for method in signed]
    return parts + [masses(method, *UNSIGNED, r=0.9, n=n) for method in unsigned]


def test_figure_13_asks_about_the_papers_rivals_and_about_all():
    parts = of_methods(["complete", "attn_lrp"], PAPER_RIVALS)
    found = verdicts(Fig13MethodComparison(), *parts)
    assert found["paper"]["only_complete"] == "holds"
    assert found["ours"]["only_complete.of_all"] == "does not hold"
    assert {f"both_signs.{method}" for method in ("complete", *PAPER_RIVALS)} <= set(found["paper"])
    assert set(found["paper"].values()) == {"holds"}  # and that some cannot tell classes apart
    assert found["ours"]["both_signs.attn_lrp"] == "does not hold"
    assert found["ours"]["alike.attn_lrp"] == "does not hold"
    few = verdicts(Fig13MethodComparison(), *parts[:1], *of_methods(["gae"], [], n=9),
                   *of_methods([], ["lrp"]))  # fmt: skip
    assert few["paper"]["only_complete"] == "holds"  # nine pictures of GAE are not judged
    wrong = verdicts(Fig13MethodComparison(), *of_methods(["gae"], ["complete", "lrp"]))
    assert wrong["paper"]["only_complete"] == "does not hold"


@pytest.mark.parametrize("methods", [["complete"], ["gae", "lrp"], ["gae"]])
def test_figure_13_leaves_only_out_without_complete_or_without_rivals(methods):
    found = verdicts(Fig13MethodComparison(), *of_methods(methods, []))
    assert not {name for own in found.values() for name in own if name.startswith("only")}
    assert {f"both_signs.{method}" for method in methods} <= set(found["paper"])
