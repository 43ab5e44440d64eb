"""Figure 9: detail interpretation by a loss of two classes, and the contaminated class."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from attnguide.evaluation import detail
from attnguide.evaluation.detail import DIFFERENCE, EQ8, RATIO
from attnguide.evaluation.localisation import area, net_share, positive_share
from attnguide.figures import contamination
from attnguide.figures.claims import Claim
from attnguide.figures.contamination import LOSSES, change_of, gain_of, mean_of
from attnguide.figures.experiment import Stored

SIGNED, LIKE = "signed share of that part", "correlation with the map of Eq. 8"
VALID, BEYOND, GAP = "both logits positive", "positive mass beyond its area", "probability gap"
ALONE, BESIDE = ("detail", "logit"), ("beside", "logit")
UNCHANGED = 0.05  # a signed share that rises by less has not changed
SECTION = "4.4.3"  # of the paper


@dataclass
class Fig09Detail(contamination.DetailFigure):
    """Explain one class against another; measure it where the part that differs is known."""

    title = "Figure 9: detail interpretation"
    claim = (
        "With a loss of two classes, the map shows which details speak for the first class (red) "
        "and which for the second (blue). It uncovers why a picture labelled kite was taken for a "
        "bald eagle: the kites of the training data contain bald eagles, so their white head is "
        "read as a detail of a kite."
    )
    measures = {
        "positive mass on the part that differs": positive_share("part"),
        "area of that part": area("part"),
        BEYOND: lambda rows: positive_share("part")(rows) - rows["area_part"],
        SIGNED: net_share("part"),
        "signed share of the animal": net_share("object"),
        VALID: detail.both_positive,
        LIKE: detail.like_eq8,
        GAP: detail.probability_gap,
    }
    claims = (
        Claim("fig09.part", "Eq. 8 puts more of the positive mass on the part that tells the "
              "classes apart than the logit does (difference; both logits positive)",
              gain_of(("detail", EQ8), ALONE, positive_share("part")), above=0, section=SECTION),
        *(Claim(f"fig09.like.{loss}", f"{LOSSES[loss]} does what Eq. 8 does: correlation of the "
                "maps (the bound is ours)", mean_of("detail", loss, LIKE), above=0.9,
                section=SECTION)
          for loss in (DIFFERENCE, RATIO)),
        Claim("fig09.distinct.alone", "the logit's map marks the most distinct part: its share of "
              "the positive mass minus its share of the area", mean_of(*ALONE, BEYOND), above=0,
              section=SECTION),
        Claim("fig09.distinct.beside", "beside a guide the part's share of the picture's own "
              "positive mass is smaller: alone minus beside a guide",
              gain_of(ALONE, BESIDE, detail.part_of_picture), above=0, section=SECTION),
        Claim("fig09.valid", "both logits are positive, as Eq. 8 needs, in most pictures",
              mean_of(*ALONE, VALID), above=0.5, source="ours"),
        Claim("fig09.red.difference", "contaminated labels show as red: the part speaks for the "
              f"class that it was mixed into ({LOSSES[DIFFERENCE]}; signed share)",
              mean_of("contamination", DIFFERENCE, SIGNED, "contaminated"), above=0,
              section=SECTION),
        Claim("fig09.redder.difference", "the part is redder than with clean labels "
              f"({LOSSES[DIFFERENCE]}; change of the signed share)",
              change_of("contamination", DIFFERENCE), above=0, source="ours"),
        Claim("fig09.less_probable", "the mixed class stays less probable than the class shown, so "
              "that the part is evidence against it (difference of probabilities)",
              mean_of("contamination", "logit", GAP, "contaminated"), below=0, source="ours"),
        Claim("fig09.redder.logit", "the logit shows it beside another animal: the part is redder "
              "than with clean labels (change of the signed share)",
              change_of("guided", "logit"), above=0, source="ours"),
        Claim("fig09.control", "parts of the other species, whose labels are clean in both models, "
              f"become redder by less than {UNCHANGED} (logit, another animal beside them)",
              change_of("control", "logit"), below=UNCHANGED, source="ours"),
    )  # fmt: skip

    def remarks(self, stored: Stored) -> list[str]:
        """What contamination can show, by the probabilities; what claims leave open."""
        rows = stored.rows
        if rows["area_part"].isna().all():
            return [contamination.FOR_THE_EYE]
        by_logit = (rows["part"] == "contamination") & (rows["loss"] == "logit")
        return [*contamination.why_not_red(rows[by_logit])]

    def caption(self, stored: Stored, model: str) -> str:  # noqa: ARG002
        """What the columns are."""
        models = ", ".join(dict.fromkeys(stored.shown["model"]))
        return (
            f"Complete correction of a loss of two classes ({models}): red speaks for the first "
            "class named above a map, blue for the second; l1 and l2 are their logits. First pair: "
            "by the paper's Eq. 8, which needs both logits positive, and by its two alternatives; "
            "then another pair. Framed: a picture whose class was mixed with another in training."
        )

    def main_figure(self, stored: Stored) -> tuple[Figure, dict[str, Figure]]:
        """Every picture with its maps, the framed one last."""
        return contamination.draw_comparisons(stored, stored.shown), {}
