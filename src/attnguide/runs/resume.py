"""Whether a run may go on: its inputs are those that `inputs.json` holds, or it is refused.

The first process that writes the file decides for all shards and for every later life of the run.
Settings, weights and lists are compared by checksums, pictures by the checksums of their files that
stand with the parts, since a picture is opened only when its turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import TypeAdapter
from rich.console import Console

from attnguide.data.pictures import Item, share
from attnguide.errors import InputError
from attnguide.figures.experiment import Study
from attnguide.runs.settings import NOT_COMPARED
from attnguide.store.files import checksum, locked, read_json, write_atomic
from attnguide.store.folder import RunFolder, flat
from attnguide.store.provenance import code_version
from attnguide.store.table import PartInputs, done, read_part_inputs

SHOWN = 3  # differences in a message, and pictures in one of them


@dataclass(frozen=True)
class ModelInputs:
    """What the rows of one model are made of.

    Attributes:
        facts: Checksums of weights, class names, preprocessing and guide; the keys are the words of
            messages.
        items: The complete list in its order: the label, then all else that decides the rows of an
            item, by the item's key.
    """

    facts: dict[str, str]
    items: dict[str, str]

    def differences(self, now: ModelInputs) -> list[str]:
        """What is different now, in words; empty if nothing."""
        words, changed = _differ(self.facts, now.facts), _differ(self.items, now.items)
        more, fewer = (now.items.keys() - self.items.keys(), self.items.keys() - now.items.keys())
        if more or fewer:  # which moves the places of the others
            example = _picture_of(min(more or fewer))
            counts = f"{len(more)} more, {len(fewer)} fewer, such as {example}"
            words.append(f"the list of pictures ({counts})")
        elif changed:
            words.append(f"the labels, places or boxes of {_names_of(changed)}")
        return words


@dataclass
class Inputs:
    """What the numbers of a run are made of, as `inputs.json` holds it.

    Attributes:
        settings: Checksum of the value of every setting that counts, by its dotted name.
        code: Versions of the program that have computed rows.
        models: By name.
        trials: Seconds of every way that was timed, by what was to be chosen; the fastest is used.
    """

    settings: dict[str, str]
    code: list[dict[str, str]] = field(default_factory=list)
    models: dict[str, ModelInputs] = field(default_factory=dict)
    trials: dict[str, dict[str, float]] = field(default_factory=dict)

    def digest(self, model: str) -> str:
        """Checksum of all that decides the rows of a model but the pixels; it stands in parts."""
        own = self.models[model]
        return checksum(
            json.dumps([self.settings, model, sorted(own.facts.items()), list(own.items.items())])
        )


_AS_JSON = TypeAdapter(Inputs)


def read_inputs(folder: RunFolder) -> Inputs | None:
    """What `inputs.json` holds; None where it is absent or damaged."""
    try:
        return read_json(folder.inputs, _AS_JSON)
    except (InputError, FileNotFoundError):
        return None


def _write_inputs(folder: RunFolder, inputs: Inputs) -> None:
    """Store it, unless it is what is there."""
    data = _AS_JSON.dump_json(inputs, indent=1)
    if not folder.inputs.is_file() or folder.inputs.read_bytes() != data:
        write_atomic(folder.inputs, data)


def open_run(
    folder: RunFolder, values: Mapping[str, Any], config: Mapping[str, Any], console: Console
) -> None:
    """Begin a run, or go on with one of the same settings.

    Another version of the program is recorded and told, and no reason to refuse.

    Args:
        folder: Of the run.
        values: Every setting; a variable of the environment counts by its value.
        config: The same as it is recorded, where such a variable is named.
        console: Where to print.

    Raises:
        ValueError: the first settings that differ; a folder that holds something else.
    """
    folder.refuse_foreign()
    folder.make()
    with locked(folder.lock("inputs"), str(folder.inputs), wait_s=60):
        inputs, asked = read_inputs(folder), _checksums_of(values)
        there = _stored_settings(folder, may_be_damaged=inputs is not None)
        if inputs is not None:
            differ = _differ(inputs.settings, asked)
        else:
            differ = _differ(_checksums_of(there), _checksums_of(config)) if there else []
        if differ:
            now = flat(config)
            words = (f"{k} (there {there.get(k)}, now {now.get(k)})" for k in differ[:SHOWN])
            raise InputError(
                f"{folder.path} contains a run with different settings: {'; '.join(words)}; use "
                "the same settings to resume it, or pass another run_dir"
            )
        if not there:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
            write_atomic(folder.config, text.encode())
        inputs, version = inputs or Inputs(asked), code_version()
        if version not in inputs.code:
            for code in inputs.code:
                console.print(
                    f"warning: rows of this run were computed with {_words(code)}; this is "
                    f"{_words(version)}, which is recorded",
                    soft_wrap=True,
                )
            inputs.code.append(version)
        _write_inputs(folder, inputs)


def _stored_settings(folder: RunFolder, *, may_be_damaged: bool) -> dict[str, Any]:
    """The settings that are recorded, by dotted name; empty where they are lost."""
    try:
        return flat(folder.load_config())
    except FileNotFoundError:
        return {}
    except InputError as error:
        if may_be_damaged:  # since `inputs.json` says what run this is
            return {}
        raise InputError(
            f"{error}; pass another run_dir, or delete this folder to start anew"
        ) from None


def check_inputs(folder: RunFolder, study: Study, items: Sequence[Item]) -> str:
    """Compare a model's inputs with those of the stored rows; the first ones are stored.

    Args:
        folder: Of the run; what all of its shards have stored is compared.
        study: Model, pictures, guide.
        items: The complete list.

    Returns:
        Checksum of the inputs, for the parts.

    Raises:
        ValueError: other inputs than those of the stored rows; names the first differences.
    """
    model, now = study.vit.name, inputs_of(study, items)
    read = map(read_part_inputs, folder.part_files())
    parts = [part for part in read if part is not None and part.model in (model, "")]
    with locked(folder.lock("inputs"), str(folder.inputs), wait_s=60):
        inputs = read_inputs(folder)
        if inputs is None:
            raise InputError(f"{folder.inputs} has been deleted; run the same command again")
        differences = inputs.models.setdefault(model, now).differences(now)
        digest = inputs.digest(model)
        foreign = sum(part.inputs != digest for part in parts)
        if not differences and foreign:
            differences = [f"{foreign} parts were computed from other inputs"]
        differences = differences or _changed_pictures(parts, items)
        if differences:
            raise InputError(
                f"{folder.path} was started with different inputs: "
                f"{'; '.join(differences[:SHOWN])} (model {model}); pass another run_dir, or "
                "delete this folder to start anew"
            )
        _write_inputs(folder, inputs)
    return digest


def trial_of_run(
    folder: RunFolder, what: str, measure: Callable[[], Mapping[str, float]]
) -> Mapping[str, float]:
    """What `measure` gave to the first process of the run, by whose choice all others go."""
    with locked(folder.lock("inputs"), str(folder.inputs), wait_s=600):
        inputs = read_inputs(folder)
        if inputs is None:
            return measure()
        if what not in inputs.trials:
            inputs.trials[what] = dict(measure())
            _write_inputs(folder, inputs)
        return inputs.trials[what]


def inputs_of(study: Study, items: Sequence[Item]) -> ModelInputs:
    """What a model's rows are made of."""
    vit = study.vit
    facts = {
        "the weights": vit.weights_sha256,
        "the class names": checksum(repr(vit.class_names)),
        "the preprocessing": checksum(repr(vit.preprocess)),
    }
    try:
        guides = study.guide_pictures
    except InputError:  # an experiment that needs one says so when it looks at it
        guides = ()
    if guides:
        labels = b"".join(repr((g.picture.size, g.label)).encode() for g in guides)
        facts["the guide"] = checksum(labels + b"".join(g.picture.tobytes() for g in guides))
    if study.guide.is_chosen:
        _ = study.evidence  # here, and not in each process that reads pictures
    entries = {
        key_of(i): "|".join(map(str, (i.label, i.number, i.unit, i.shown, i.measured, i.facts)))
        for i in items
    }
    return ModelInputs(facts, entries)


def missing(folder: RunFolder, num_shards: int = 1) -> list[set[str]]:
    """Of each shard the pictures without rows."""
    inputs, lost = read_inputs(folder), [set[str]() for _ in range(num_shards)]
    for model, own in inputs.models.items() if inputs is not None else ():
        stored, keys = {"|".join(name) for name in done(folder.path, model=model)}, list(own.items)
        for shard, pictures in enumerate(lost):
            mine = share(keys, shard, num_shards)
            pictures.update(_picture_of(key) for key in mine if key not in stored)
    return lost


def check_parts(folder: RunFolder) -> None:
    """Refuse to merge or draw parts of other inputs than the run's.

    Raises:
        ValueError: the first such part.
    """
    inputs = read_inputs(folder)
    digests = {} if inputs is None else {model: inputs.digest(model) for model in inputs.models}
    for path in folder.part_files() if digests else ():
        part = read_part_inputs(path)
        if part is not None and digests.get(part.model) != part.inputs:
            raise InputError(
                f"{path} was computed from other inputs than {folder.inputs} says; delete it and "
                "run its shard again, or use another run_dir"
            )


def key_of(item: Item) -> str:
    """Name of an item among all of a model's."""
    return f"{item.part}|{item.id}"


def _differ(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Keys that only one of them has, or whose values are not the same."""
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


def _checksums_of(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: checksum(json.dumps(value, sort_keys=True, default=str))
        for key, value in flat(values).items()
        if not key.startswith(NOT_COMPARED)
    }


def _changed_pictures(parts: Sequence[PartInputs], items: Sequence[Item]) -> list[str]:
    """The pictures that are not those of their rows, in words; empty if there are none.

    Where size and times of a file are the same, so is its content. Where they differ, as after a
    copy, its checksum decides.
    """
    known, changed = {key_of(item): item for item in items}, set()
    for part in parts:
        for key, stored in part.files.items():
            sources = known[key].sources if key in known else ()
            if len(sources) != len(stored):
                changed.add(key)
            for source, (*_, old_stamp, old_content) in zip(sources, stored, strict=False):
                if source.stamp != old_stamp and source.content() != old_content:
                    changed.add(key)
    return [f"the pictures {_names_of(changed)}"] if changed else []


def _picture_of(key: str) -> str:
    """Id of the picture in an item's key."""
    return key.partition("|")[2]


def _names_of(keys: Collection[str]) -> str:
    names = ", ".join(_picture_of(key) for key in sorted(keys)[:SHOWN])
    return names if len(keys) <= SHOWN else f"{names}, ... ({len(keys)} in all)"


def _words(code: Mapping[str, str]) -> str:
    """A version of the program in one text."""
    return ", ".join(f"{name} {value}" for name, value in code.items() if value)
