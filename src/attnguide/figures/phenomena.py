"""Phenomena that several figures speak of: each is judged by the same claims everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attnguide.data.views import ALONE
from attnguide.errors import InputError
from attnguide.evaluation.localisation import LIKE
from attnguide.evaluation.statistics import Estimate, paired_difference
from attnguide.figures.claims import Ask, Claim, Table, mean
from attnguide.figures.experiment import Choices, Stored
from attnguide.figures.method_study import asks_for_all, blind_to_classes
from attnguide.viz.style import method_label

SIGN, WHOLE = "net positive on the object", "net positive in all"
OWN = "sign right on the picture's part"
RIGHT = "the picture's part net positive and the guide's net negative"
RED = "positive share of the object's mass"
LIKE_MEASURES = tuple(LIKE.values())
BLIND = 0.5  # correlation between maps of two classes above which we call a method class-blind
RELIABLE = 0.9  # share that a method must reach to interpret pictures of one class
DRAWN = (
    "Creatures are 16 drawn classes, another population than the paper's photographs of 1,000 "
    "classes: what holds or fails here need not do so there."
)


def interpreted(figure: str, measures: Sequence[str] = (SIGN, RED)) -> tuple[Claim, ...]:
    """That complete cannot interpret a picture of one class without a guide (Figs. 3, 7, 8).

    The sign of the whole map needs no known object, so it is judged on photographs too.
    """
    words = "in pictures of one class complete is not reliable:"
    judged = {
        WHOLE: ("whole", "share of maps that are net positive"),
        SIGN: ("sign", "share of objects that are net positive"),
        RED: ("full", "positive share of the object's mass"),
    }
    return tuple(
        mean("complete", measure, f"{words} {judged[measure][1]}",
             id=f"{figure}.alone.{judged[measure][0]}", below=RELIABLE, section="4.4.2",
             family=f"{figure}.alone")
        for measure in measures
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
        ("full", RED, "the positive share of the object's mass"),
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


def tells_apart(figure: str, method: str, *, is_paper: bool) -> tuple[Claim, ...]:
    """That a method tells classes apart: its maps of two classes are not alike (Figs. 3, 4)."""
    words = {"source": "paper", "section": "4.3"} if is_paper else {"source": "ours"}
    return _alike(figure, method, "tells_apart", "tells classes apart", below=BLIND, **words)


def class_blind(figure: str, method: str, section: str) -> tuple[Claim, ...]:
    """That a method cannot tell classes apart: its maps of two classes are alike (Figs. 3, 4)."""
    words = "cannot tell classes apart"
    return _alike(figure, method, "class_blind", words, above=BLIND, section=section)


def _alike(figure: str, method: str, name: str, words: str, **more: Any) -> tuple[Claim, ...]:
    """One claim for each of the other classes that a label's map is compared with."""
    others = (("runner_up", "the runner-up's"), ("absent", "a random other class's"))
    return tuple(
        mean(method, measure, f"{method_label(method)} {words}: correlation of the label's map "
             f"with {whose}", id=f"{figure}.{name}.{method}.{which}",
             family=f"{figure}.{name}.{method}", **more)
        for measure, (which, whose) in zip(LIKE_MEASURES, others, strict=True)
    )  # fmt: skip


def population(stored: Stored) -> list[str]:
    """What must be said where the pictures are drawn: of them alone the objects are masks."""
    return [DRAWN] if stored.rows["regions"].eq("masks").any() else []


def check_class_sensitive(choices: Choices) -> None:
    """Refuse methods that cannot tell classes apart (Fig. 13), `absolute` among them (Fig. 3).

    Whoever asks for all methods is not refused: the study leaves these out.

    Raises:
        ValueError: naming all of them.
    """
    blind = [] if asks_for_all(choices.methods) else blind_to_classes(choices.methods)
    if blind:
        raise InputError(f"only class-sensitive methods are compared; leave out {', '.join(blind)}")
