"""What cannot work in a figure is refused in one line, before any weights are loaded."""

import pytest
from running import start

BOTH = "{file: a.png, classes: [x, y]}, {file: b.png, classes: [x, y]}"
CASES = [
    ("explain", "data=folder data.root=/nowhere/at/all", "does not exist"),
    ("explain", "model.name=[creatures,creatures_contaminated]", "explain takes one model, got 2"),
    ("fig03_gradient_corrections", "runner.pictures=[{file: a.png, classes: [x, y]}]",
     "needs 1 class"),
    ("fig03_gradient_corrections", "runner.shown=0", "runner.shown must be greater than 0"),
    *((name, f"runner.pictures=[{BOTH}]",
       "2 of 2 pictures of runner.pictures are missing: a.png, b.png")
      for name in ("fig05_multi_class", "fig09_detail", "fig11_rewrite")),
    ("fig06_attention_transfer", "runner.pictures=[{file: a.png, classes: [zebra, Zebra]}]",
     "must differ, got zebra, zebra"),
    ("fig08_guided", "guide=none", "Figure 8 needs a guide"),
    ("fig08_guided", "runner.fractions=[1.5]", "must lie in [0, 1)"),
    ("fig09_detail", "data.framed=[hare,long-eared hare]", "unknown creature 'hare'"),
    ("fig09_detail", "runner.impostors=1", "impostors must be greater than or equal to 2"),
    ("fig10_other_methods", "data.framed=[long-eared hare,long-eared hare]",
     "two different classes"),
    ("fig10_other_methods", "++runner.limits.gaee=3", "gaee"),
    ("fig11_rewrite", "data.rewrites=[[long-eared hare, long-eared hare]]",
     "two different classes"),
    ("fig11_rewrite", "data.rewrites=[[hare, long-eared hare]]", "unknown creature 'hare'"),
    ("fig11_rewrite", "runner.confidence=90.0", "pass 0.9"),
    ("fig12_perturbation", "runner.fill=[zero,white]", "unknown fill"),
    ("fig12_perturbation", "runner.fractions=[0,2]", "fractions"),
    ("fig12_perturbation", "loss=ratio", "pass reference="),
    ("fig12_perturbation", "reference=runner-up", "loss=logit has no second class"),
    ("fig13_method_comparison", "method=[complete,rollout,absolute]",
     "leave out rollout, absolute"),
    ("label_audit", "guide=none", "Label audit needs a guide"),
    ("fig12_perturbation", "runner.fill=[]", "must name a fill"),
    ("train_creatures", "runner.pairs=0", "runner.pairs must be greater than 0"),
]  # fmt: skip


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(("name", "word", "message"), CASES)
def test_it_is_refused_before_any_weights(name, word, message, tmp_path):
    words = word.split() if word.startswith("data=") else [word]
    with pytest.raises((ValueError, OSError)) as caught:
        start(tmp_path / "run", f"experiment={name}", "device=cpu", *words)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
