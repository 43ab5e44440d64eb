"""Phenomena that several figures speak of: each is judged by the same claims everywhere."""

from __future__ import annotations

from attnguide.errors import InputError
from attnguide.evaluation.localisation import LIKE
from attnguide.figures.claims import Claim, mean
from attnguide.figures.experiment import Choices
from attnguide.methods import class_blind_methods
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
RED = "positive share of the object's mass"
LIKE_MEASURES = tuple(LIKE.values())
BLIND = 0.5  # correlation between maps of two classes above which we call a method class-blind
RELIABLE = 0.9  # share that a method must reach to interpret pictures of one class

# Whether complete correction interprets a picture of one class without a guide (Figs. 3, 7, 8).
INTERPRETED = (
    mean(
        "complete", SIGN, "complete, alone: the object is not reliably net positive", below=RELIABLE
    ),
    mean("complete", RED, "complete, alone: the object is not interpreted fully", below=RELIABLE),
)


def class_blind(method: str) -> tuple[Claim, ...]:
    """Whether a method's maps of two classes are alike (Figs. 3, 4)."""
    label = method_label(method)
    words = ("the runner-up's", "a random other class's")
    return tuple(
        mean(
            method, measure, f"{label} is class-blind: the label's map is like {whose}", above=BLIND
        )
        for measure, whose in zip(LIKE_MEASURES, words, strict=True)
    )


def check_class_sensitive(choices: Choices) -> None:
    """Refuse methods that cannot tell classes apart (Fig. 13), `absolute` among them (Fig. 3).

    Raises:
        ValueError: naming all of them.
    """
    blind = [name for name in choices.methods if name in ("absolute", *class_blind_methods())]
    if blind:
        raise InputError(f"only class-sensitive methods are compared; leave out {', '.join(blind)}")
