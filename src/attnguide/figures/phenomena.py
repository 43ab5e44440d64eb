"""Phenomena that several figures speak of: each is judged by the same claims everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attnguide.data.views import ALONE
from attnguide.errors import InputError
from attnguide.evaluation.localisation import LIKE
from attnguide.evaluation.statistics import Estimate, paired_difference
from attnguide.figures.claims import Ask, Claim, Table, mean
from attnguide.figures.experiment import Choices
from attnguide.figures.method_study import asks_for_all, blind_to_classes
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
OWN = "sign right on the picture's part"
RIGHT = "the picture's part net positive and the guide's net negative"
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


def between(measure: str, first: tuple[str, str, Any], second: tuple[str, str, Any]) -> Ask:
    """Rows of a method with a value in a column, minus other such rows, on the same pictures."""

    def ask(table: Table) -> Estimate:
        own, other = (
            table.of(method).query(f"{name} == @value") for method, name, value in (first, second)
        )
        return paired_difference(own, other, table.measures[measure], table.seed)

    return ask


def repaired(figure: str) -> Iterator[Claim]:
    """Whether a guide repairs complete on a picture of one class: the level, and the gain (Fig. 8).

    Rows of guides have `main`.
    """
    for name, measure, words in (
        ("own_sign", OWN, "the picture's part is net positive"),
        ("sign", SIGN, "the object is net positive"),
        ("full", RED, "the object is interpreted fully"),
    ):
        level = f"complete, beside another class: {words}"
        yield mean("complete", measure, level, id=f"{figure}.guided.{name}",
                   above=RELIABLE).where("main", True)  # fmt: skip
        yield Claim(f"{figure}.guide.{name}", f"complete: {measure}, guided minus alone",
                    between(measure, ("complete", "main", True), ("complete", "view", ALONE)),
                    above=0, methods=("complete",))  # fmt: skip


def more_than_company(figure: str, method: str = "complete") -> tuple[Claim, ...]:
    """Whether a guide does more than anything beside the picture (Fig. 8); ours.

    Rows of guides have `main`, those of company their name in `view`.
    """
    words = f"{method_label(method)}: {RIGHT}, beside another class minus beside"
    return tuple(
        Claim(f"{figure}.company.{name}", f"{words} {what}",
              between(RIGHT, (method, "main", True), (method, "view", name)), above=0,
              methods=(method,), source="ours")
        for name, what in (("noise", "noise"), ("grey", "grey"), ("itself", "the picture itself"))
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
