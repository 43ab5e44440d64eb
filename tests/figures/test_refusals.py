"""What cannot work in a figure is refused in one line, before any weights are loaded."""

import pytest
from running import start

TWO = ("fig05_multi_class", "fig06_attention_transfer", "fig10_other_methods", "fig11_rewrite",
       "fig13_method_comparison")  # fmt: skip
CONTAMINATION = ("fig09_detail", "fig10_other_methods")
BOTH = "{file: a.png, classes: [x, y]}, {file: b.png, classes: [x, y]}"
CASES = [
    *(case for name in (*TWO, "fig09_detail") for case in (
        (name, f"runner.pictures=[{BOTH}]",
         "2 of 2 pictures of runner.pictures are missing: a.png, b.png"),
        (name, "runner.pictures=[{file: a.png, classes: [zebra, Zebra]}]",
         "must differ, got zebra, zebra"),
    )),
    ("explain", "runner.overview=0", "greater than 0, got 0"),
    ("explain", "data=folder data.root=/nowhere/at/all", "does not exist"),
    ("explain", "model.name=[creatures,creatures_contaminated]", "explain takes one model, got 2"),
    ("explain", "runner.scenes=1", "unknown setting of runner 'scenes'"),
    ("fig03_gradient_corrections", "runner.pictures=[{file: a.png, classes: [x, y]}]",
     "needs 1 class"),
    ("fig03_gradient_corrections", "runner.shown=0", "runner.shown must be greater than 0"),
    ("fig06_attention_transfer", "runner.lr=0.0", "runner.lr must be greater than 0"),
    ("fig07_single_class", "data=folder data.root=nowhere", "does not exist"),
    ("fig08_guided", "guide=none", "Figure 8 needs a guide"),
    ("fig08_guided", "runner.fractions=[1.5]", "must lie in [0, 1)"),
    *(case for name in CONTAMINATION for case in (
        (name, "data.framed=[long-eared hare,long-eared hare]", "two different classes"),
        (name, "data.framed=[hare,long-eared hare]", "unknown creature 'hare'"),
        *((name, word, f"{name} does not take {word.partition('=')[0]}")
          for word in ("loss=ratio", "guide=left", "target=3", "reference=3")),
    )),
    ("fig09_detail", "method=gae", "does not take method"),
    ("fig09_detail", "rule=positive", "does not take rule"),
    ("fig09_detail", "runner.impostors=1", "impostors must be greater than or equal to 2"),
    ("fig10_other_methods", "++runner.limits.gaee=3", "gaee"),
    ("fig11_rewrite", "data.rewrites=[[long-eared hare, long-eared hare]]",
     "two different classes"),
    ("fig11_rewrite", "data.rewrites=[[hare, long-eared hare]]", "unknown creature 'hare'"),
    ("fig11_rewrite", "runner.confidence=90.0", "pass 0.9"),
    ("fig12_perturbation", "runner.fill=white", "unknown fill"),
    ("fig12_perturbation", "runner.fill=[zero,white]", "unknown fill"),
    ("fig12_perturbation", "runner.unguided_every=-1", "unguided_every"),
    ("fig12_perturbation", "runner.fractions=[0,2]", "fractions"),
    ("fig12_perturbation", "guide.fraction=1.5", "fraction"),
    ("fig12_perturbation", "loss=ratio", "pass reference="),
    ("fig12_perturbation", "reference=runner-up", "loss=logit has no second class"),
    ("fig13_method_comparison", "method=[complete,rollout,absolute]",
     "leave out rollout, absolute"),
    ("fig13_method_comparison", "runner.limits={gaee: 3}", "gaee"),
    ("label_audit", "guide=none", "Label audit needs a guide"),
    ("sanity_checks", "runner.noise=2.0", "noise must be less than or equal to 1"),
    ("scorecard", "runner.grids=-1", "runner.grids must be"),
]  # fmt: skip


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(("name", "word", "message"), CASES)
def test_it_is_refused_before_any_weights(name, word, message, tmp_path):
    words = word.split() if word.startswith("data=") else [word]
    with pytest.raises((ValueError, OSError)) as caught:
        start(tmp_path / "run", f"experiment={name}", "device=cpu", *words)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
