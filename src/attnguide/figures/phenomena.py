"""Phenomena that several figures speak of: each is judged by the same claims everywhere."""

from __future__ import annotations

from attnguide.errors import InputError
from attnguide.evaluation.localisation import LIKE
from attnguide.figures.claims import Claim, mean
from attnguide.figures.experiment import Choices
from attnguide.figures.method_study import asks_for_all, blind_to_classes
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
RED = "positive share of the object's mass"
LIKE_MEASURES = tuple(LIKE.values())
BLIND = 0.5  # correlation between maps of two classes above which we call a method class-blind
RELIABLE = 0.9  # share that a method must reach to interpret pictures of one class


def interpreted(figure: str) -> tuple[Claim, ...]:
    """Whether complete interprets a picture of one class without a guide (Figs. 3, 7, 8)."""
    words = "complete, alone: the object is not"
    return (
        mean("complete", SIGN, f"{words} reliably net positive", id=f"{figure}.alone.sign",
             below=RELIABLE),
        mean("complete", RED, f"{words} interpreted fully", id=f"{figure}.alone.full",
             below=RELIABLE),
    )  # fmt: skip


def class_blind(figure: str, method: str) -> tuple[Claim, ...]:
    """Whether a method's maps of two classes are alike (Figs. 3, 4)."""
    others = (("runner_up", "the runner-up's"), ("absent", "a random other class's"))
    words = f"{method_label(method)} is class-blind: the label's map is like"
    return tuple(
        mean(method, measure, f"{words} {whose}", id=f"{figure}.class_blind.{method}.{which}",
             above=BLIND)
        for measure, (which, whose) in zip(LIKE_MEASURES, others, strict=True)
    )  # fmt: skip


def check_class_sensitive(choices: Choices) -> None:
    """Refuse methods that cannot tell classes apart (Fig. 13), `absolute` among them (Fig. 3).

    Whoever asks for all methods is not refused: the study leaves these out.

    Raises:
        ValueError: naming all of them.
    """
    blind = [] if asks_for_all(choices.methods) else blind_to_classes(choices.methods)
    if blind:
        raise InputError(f"only class-sensitive methods are compared; leave out {', '.join(blind)}")
