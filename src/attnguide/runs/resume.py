"""Whether a run may go on: its inputs are those that `inputs.json` holds, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.console import Console

from attnguide.data.pictures import Item, share
from attnguide.errors import InputError
from attnguide.figures.experiment import Study
from attnguide.runs.settings import FREE
from attnguide.store.config import flat, load_config
from attnguide.store.files import locked, write_atomic
from attnguide.store.folder import RunFolder
from attnguide.store.inputs import (
    Inputs,
    ModelInputs,
    PartInputs,
    item_key,
    names_of,
    picture_name,
    read_inputs,
    write_inputs,
)
from attnguide.store.provenance import code_version
from attnguide.store.sources import checksum
from attnguide.store.table import done, read_part_inputs

SHOWN = 3  # differences in a message


def check_settings(folder: RunFolder, values: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings than those of the stored rows.

    Args:
        folder: Of the run.
        values: Every setting; a variable of the environment counts by its value.
        config: The same as it is recorded, where such a variable is named.

    Raises:
        ValueError: the first settings that differ; a folder that holds something else.
    """
    folder.refuse_foreign()
    if not folder.config.is_file():
        return
    inputs, there, now = read_inputs(folder), flat(load_config(folder.path)), flat(config)
    if inputs is not None:
        before, after = inputs.settings, checksums_of(values)
    else:  # lost or damaged: what is written in the config is all there is
        before, after = checksums_of(there), checksums_of(now)
    differ = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if differ:
        words = [f"{key} (there {there.get(key)}, now {now.get(key)})" for key in differ[:SHOWN]]
        raise InputError(
            f"{folder.path} contains a run with different settings: {'; '.join(words)}; use the "
            "same settings to resume it, or pass another run_dir"
        )


def open_run(
    folder: RunFolder, values: Mapping[str, Any], config: Mapping[str, Any], console: Console
) -> None:
    """Begin a run, or go on with one of the same settings; arguments as of `check_settings`.

    Another version of the program is recorded and told, and no reason to refuse.

    Raises:
        ValueError: as `check_settings`.
    """
    folder.make()
    with locked(folder.lock("inputs"), str(folder.inputs)):
        check_settings(folder, values, config)
        if not folder.config.is_file():
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
            write_atomic(folder.config, text.encode())
        inputs = read_inputs(folder) or Inputs(checksums_of(values))
        now = code_version()
        if now not in inputs.code:
            for code in inputs.code:
                console.print(
                    f"warning: rows of this run were computed with {_words(code)}; this is "
                    f"{_words(now)}, which is recorded",
                    soft_wrap=True,
                )
            inputs.code.append(now)
        write_inputs(folder, inputs)


def check_inputs(folder: RunFolder, shard: int, study: Study, items: Sequence[Item]) -> str:
    """Compare a model's inputs with those of the stored rows; the first ones are stored.

    Args:
        folder, shard: Of the run.
        study: Model, pictures, guide.
        items: The complete list.

    Returns:
        Checksum of the inputs, for the parts.

    Raises:
        ValueError: other inputs than those of the stored rows; names the first differences.
    """
    model, now = study.vit.name, inputs_of(study, items)
    read = [read_part_inputs(path) for path in folder.part_files(shard)]
    parts = [part for part in read if part is not None and part.model in (model, "")]
    with locked(folder.lock("inputs"), str(folder.inputs)):
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
        write_inputs(folder, inputs)
    return digest


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


def missing(folder: RunFolder, shard: int, num_shards: int, skipped: Sequence[str]) -> int:
    """How many items of a shard have no rows, but for the pictures that could not be read."""
    inputs, count = read_inputs(folder), 0
    for model, own in inputs.models.items() if inputs is not None else ():
        stored = {item_key(*name) for name in done(folder.path, model=model)}
        keys = share(list(own.items), shard, num_shards)
        count += sum(key not in stored and picture_name(key) not in skipped for key in keys)
    return count


def check_parts(folder: RunFolder, console: Console | None = None) -> None:
    """Refuse to merge or draw parts of other inputs than the run's.

    Raises:
        ValueError: the first such part.
    """
    inputs = read_inputs(folder)
    if inputs is None:
        return
    digests = {model: inputs.digest(model) for model in inputs.models}
    for path in folder.part_files() if digests else ():
        part = read_part_inputs(path)
        if part is not None and digests.get(part.model) != part.inputs:
            raise InputError(
                f"{path} was computed from other inputs than {folder.inputs} says; delete it and "
                "run its shard again, or use another run_dir"
            )
    if len(inputs.code) > 1 and console is not None:
        console.print(
            f"warning: {len(inputs.code)} versions of the program computed this run: "
            f"{'; '.join(map(_words, inputs.code))}",
            soft_wrap=True,
        )


def checksums_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Checksum of the value of every setting that counts, by its dotted name."""
    return {
        key: checksum(json.dumps(value, sort_keys=True, default=str))
        for key, value in flat(values).items()
        if not key.startswith(FREE)
    }


def key_of(item: Item) -> str:
    """Name of an item among all of a model's."""
    return item_key(item.part, item.id)


def _changed_pictures(parts: Sequence[PartInputs], items: Sequence[Item]) -> list[str]:
    """The pictures that are not those of their rows, in words; empty if there are none.

    Where size and times of a file are the same, so is its content. Where they differ, as after a
    copy, its checksum decides.
    """
    known, changed = {key_of(item): item for item in items}, set()
    for part in parts:
        for key, stored in part.files.items():
            sources = known[key].sources
            if len(sources) != len(stored):
                changed.add(key)
            for source, (_, old_stamp, old_content) in zip(sources, stored, strict=False):
                if source.stamp != old_stamp and source.content() != old_content:
                    changed.add(key)
    return [f"the pictures {names_of(changed)}"] if changed else []


def _words(code: Mapping[str, str]) -> str:
    """A version of the program in one text."""
    return ", ".join(f"{name} {value}" for name, value in code.items() if value)
