"""The bald-eagle and kite case with ground truth: a class whose training pictures were mixed.

30 % of the "red-necked eagles" that `creatures_contaminated` was trained on show white-headed
ones; `creatures` was trained on clean labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from attnguide.config import DataConfig
from attnguide.data.case import Case, Cases
from attnguide.data.cases import creature_case, is_creatures
from attnguide.data.creatures import scenes as creatures
from attnguide.errors import InputError
from attnguide.models.load import load_model
from attnguide.types import ViT

CLEAN, CONTAMINATED = "creatures", "creatures_contaminated"


def rivals(data: DataConfig, device: torch.device, weights: dict[str, str]) -> Iterator[ViT]:
    """The models of clean and of contaminated labels; none where the pictures are photographs.

    Args:
        data: Which pictures.
        device: Where to put the models.
        weights: Is told their checksums.
    """
    for name in (CLEAN, CONTAMINATED) if is_creatures(data) else ():
        vit = load_model(name, device=device)
        weights[name] = vit.weights_sha256
        yield vit


def impostor_cases(vit: ViT, shown: str, count: int, seed: int) -> Cases:
    """Pictures of the class that was mixed into its sibling's, one animal each.

    Args:
        vit: Numbers the classes.
        shown: Name of the class in the pictures.
        count: How many.
        seed: Of the creatures' world.

    Raises:
        ValueError: no class of the creatures, or a model that does not know them.
    """
    label = creature_label(shown)

    def draw(number: int) -> Case:
        scene = creatures.single(seed, number, label)
        return creature_case(vit, scene, f"impostor-{seed}-{number}")

    return Cases([f"impostor-{seed}-{number}" for number in range(count)], draw)


def guided_cases(vit: ViT, shown: str, count: int, seed: int, *, control: bool = False) -> Cases:
    """Scenes of two animals of different species; the first is the one to ask for.

    Args:
        vit, shown, count, seed: As in `impostor_cases`.
        control: The first animal is of any other species, whose labels are clean.
    """
    label = creature_label(shown)
    own = creatures.species(label)
    kind = "control" if control else "guided"

    def draw(number: int) -> Case:
        others = [c for c in range(creatures.NUM_CLASSES) if creatures.species(c) != own]
        first = others[number % len(others)] if control else label
        rest = [c for c in others if creatures.species(c) != creatures.species(first)]
        scene = creatures.pair(seed, number, (first, rest[3 * number % len(rest)]))
        return creature_case(vit, scene, f"{kind}-{seed}-{number}")

    return Cases([f"{kind}-{seed}-{number}" for number in range(count)], draw)


def sibling_of(vit: ViT, case: Case) -> int:
    """The model's number of the other variant of the first animal's species."""
    return vit.class_index(creatures.CLASS_NAMES[creatures.sibling(creature_label(case.names[0]))])


def creature_label(name: str) -> int:
    """Number of a class among the creatures.

    Raises:
        ValueError: no such class.
    """
    if name not in creatures.CLASS_NAMES:
        raise InputError(f"{name!r} is no creature; known: {', '.join(creatures.CLASS_NAMES)}")
    return creatures.CLASS_NAMES.index(name)
