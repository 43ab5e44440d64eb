"""What the numbers of a run are made of: `inputs.json`, and the same in brief with every part.

The first process that writes the file decides for all shards and for every later life of the run.
Settings, weights and lists are compared by checksums, pictures by the checksums of their files that
stand with the parts, since a picture is opened only when its turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

from attnguide.store.files import write_atomic
from attnguide.store.folder import RunFolder
from attnguide.store.sources import checksum

NAMED = 3  # pictures in a message


@dataclass(frozen=True)
class ModelInputs:
    """What the rows of one model are made of.

    Attributes:
        facts: Checksums of weights, class names, preprocessing and guide; the keys are the words of
            messages.
        items: The complete list in its order: the label, then all else that decides the rows of an
            item, by the item's key.
    """

    facts: Mapping[str, str]
    items: Mapping[str, str]

    def differences(self, now: ModelInputs) -> list[str]:
        """What is different now, in words; empty if nothing."""
        words = [
            what
            for what in {**self.facts, **now.facts}
            if self.facts.get(what) != now.facts.get(what)
        ]
        more, fewer = now.items.keys() - self.items.keys(), self.items.keys() - now.items.keys()
        if more or fewer:
            words.append(
                f"the list of pictures ({len(more)} more, {len(fewer)} fewer, such as "
                f"{picture_name(min(more or fewer))})"
            )
        elif list(self.items) != list(now.items):
            words.append("the order of the pictures")
        changed = {
            key for key in self.items.keys() & now.items.keys() if self.items[key] != now.items[key]
        }
        labels = {key for key in changed if _label(self.items[key]) != _label(now.items[key])}
        if labels:
            words.append(f"the labels of {names_of(labels)}")
        if changed - labels and not more and not fewer:  # a longer list moves all places
            words.append(f"the places, boxes or classes of {names_of(changed - labels)}")
        return words


@dataclass
class Inputs:
    """What the numbers of a run are made of.

    Attributes:
        settings: Checksum of the value of every setting that counts, by its dotted name.
        code: Versions of the program that have computed rows.
        models: By name.
    """

    settings: dict[str, str]
    code: list[dict[str, str]] = field(default_factory=list)
    models: dict[str, ModelInputs] = field(default_factory=dict)

    def digest(self, model: str) -> str:
        """Checksum of all that decides the rows of a model but the pixels; it stands in parts."""
        own = self.models[model]
        return checksum(
            json.dumps([self.settings, model, sorted(own.facts.items()), list(own.items.items())])
        )


@dataclass(frozen=True)
class PartInputs:
    """What the rows of a part were computed from.

    Attributes:
        model: Name of the model.
        inputs: `Inputs.digest` of the model.
        files: (path, size and times, checksum of the content) of the files of each item.
        pictures: Checksum of every picture that was stored with the rows, by its file name.
    """

    model: str
    inputs: str
    files: Mapping[str, list[list[str]]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)


def read_inputs(folder: RunFolder) -> Inputs | None:
    """What `inputs.json` holds; None where it is absent or damaged."""
    try:
        stored = json.loads(folder.inputs.read_text())
        models = {name: ModelInputs(**entry) for name, entry in stored.pop("models").items()}
        return Inputs(**stored, models=models)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_inputs(folder: RunFolder, inputs: Inputs) -> None:
    """Store it, unless it is what is there."""
    data = json.dumps(asdict(inputs), indent=0).encode()
    if not folder.inputs.is_file() or folder.inputs.read_bytes() != data:
        write_atomic(folder.inputs, data)


def item_key(part: str, image_id: str) -> str:
    """Name of an item among all of a model's."""
    return f"{part}|{image_id}"


def picture_name(key: str) -> str:
    """Id of the picture in an item's key."""
    return key.partition("|")[2]


def names_of(keys: Collection[str]) -> str:
    """Some items by name, for messages."""
    names = ", ".join(picture_name(key) for key in sorted(keys)[:NAMED])
    return names if len(keys) <= NAMED else f"{names}, ... ({len(keys)} in all)"


def _label(entry: str) -> str:
    return entry.partition("|")[0]
