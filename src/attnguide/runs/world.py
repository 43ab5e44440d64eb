"""Whether a run goes on in the world it began in; where not, it is refused, or computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from attnguide.data.pictures import Item
from attnguide.errors import InputError
from attnguide.figures.experiment import Choices, Study
from attnguide.store.identity import (
    Changes,
    Identity,
    check_origins,
    code_version,
    code_words,
    compare,
    read_identities,
    refuse,
    write_identity,
)
from attnguide.store.origins import Origin, item_key, read_origins
from attnguide.store.sources import checksum, stamp
from attnguide.store.table import Results, intact_parts

if TYPE_CHECKING:
    from attnguide.runs.settings import Settings

DRAWN = ("panels",)  # folders of the run whose pictures are drawn from its rows, and kept


def key_of(item: Item) -> str:
    """Name of an item among all of a model's."""
    return item_key(item.part, item.id)


def identity_of(
    study: Study, items: Sequence[Item], settings: str, files: Mapping[str, str]
) -> Identity:
    """What a model's rows are made of.

    Args:
        study: Model, pictures, guide.
        items: The complete list.
        settings: Checksum of the settings that count.
        files: Stamps of the models' files, from before they were read.
    """
    vit, guide = study.vit, None
    with suppress(InputError):  # an experiment that needs one says so when it looks at it
        guide = study.guide_picture
    facts = {
        "the weights": vit.weights_sha256,
        "the class names": checksum(repr(vit.class_names)),
        "the preprocessing": checksum(repr(vit.preprocess)),
    }
    read = dict(files)
    if guide is not None:
        picture = guide.picture
        facts["the guide"] = checksum(
            repr((picture.size, guide.label)).encode() + picture.tobytes()
        )
        read |= {source.path: source.stamp for source in guide.sources}
    return Identity(vit.name, settings, facts, {key_of(i): _entry(i) for i in items}, read)


def _entry(item: Item) -> str:
    """What decides an item's rows beside its pixels; the label comes first."""
    rest = (item.number, item.unit, item.shown, item.measured, item.facts)
    return "|".join(str(part) for part in (item.label, *rest))


def settle(
    results: Results,
    identity: Identity,
    items: Sequence[Item],
    settings: Settings,  # noqa: ARG001
    console: Console,
) -> None:
    """Compare a model's inputs with those of the rows that are stored, and store what they are.

    Args:
        results: Of this shard.
        identity: What is true now.
        items: The complete list.
        settings: Of the run.
        console: Where it is told.

    Raises:
        ValueError: other inputs than those of the stored rows; names them.
    """
    before = read_identities(results.run_dir).get("models", {}).get(identity.model)
    read = list(read_origins(results.own_parts()))
    origins = [(path, own) for path, own in read if own is None or own.model == identity.model]
    changes = compare(before, identity, origins)
    if not changes.whole:
        changes.add_items("the picture", _changed_pictures(items, origins))
    if changes.words:
        raise refuse(results.run_dir, identity.model, changes)
    for code in write_identity(results.run_dir, identity):
        console.print(
            f"warning: rows of this run were computed with {code_words(code)}; now it is "
            f"{code_words(code_version())}, which is recorded"
        )


def _changed_pictures(
    items: Sequence[Item], origins: Sequence[tuple[Path, Origin | None]]
) -> set[str]:
    """Keys of the items whose pixels are others than those of their rows."""
    known = {key_of(item): item for item in items}
    changed = set()
    for origin in (origin for _, origin in origins if origin is not None):
        for key, stored in origin.sources.items():
            now = known[key].sources if key in known else ()
            if key in known and len(now) != len(stored):
                changed.add(key)
            for source, (_, old_stamp, old_content) in zip(now, stored, strict=False):
                if source.stamp != old_stamp and source.content() != old_content:
                    changed.add(key)
    return changed


def _recompute(
    results: Results,
    origins: Sequence[tuple[Path, Origin | None]],
    changes: Changes,
    settings: Settings,
    console: Console,
) -> None:
    """Drop the rows of what changed, so that they are computed again."""
    if settings.devices > 1:
        raise InputError("on_change=recompute needs devices=1; go on with several afterwards")
    if changes.whole:
        results.drop([path for path, _ in origins])
    else:
        stale = [p for p, own in origins if own is not None and changes.items & own.items.keys()]
        results.drop(stale, changes.items)
    for folder in (results.run_dir / name for name in DRAWN):
        for path in folder.glob("*.png") if not folder.is_symlink() else ():
            path.unlink()
    what = "all of it" if changes.whole else f"{len(changes.items)} items"
    console.print(f"changed: {'; '.join(changes.words)}; {what} of this model is computed anew")


def is_unchanged(run_dir: Path, shard: int, choices: Choices, pictures: str) -> bool:
    """Whether a finished run's inputs are as they were, told from names, sizes and times alone.

    Args:
        run_dir, shard: Of the run.
        choices: What the run is given now.
        pictures: The fingerprint of its pictures, as it was stored.
    """
    models: dict[str, Identity] = read_identities(run_dir).get("models", {})
    files = choices.models.files()
    if not models or files is None or fingerprint(choices) != pictures:
        return False
    known = {path: old for identity in models.values() for path, old in identity.files.items()}
    if any(known.get(str(path)) != stamp(path) for path in files):
        return False
    for _, origin in read_origins(intact_parts(run_dir, shard)):
        for stored in origin.sources.values() if origin is not None else ():
            known |= {path: old for path, old, _ in stored}
    return all(stamp(path) == old for path, old in known.items())


def fingerprint(choices: Choices) -> str:
    """Of the pictures; "" where they have none."""
    make = getattr(choices.pictures, "fingerprint", None)
    return "" if make is None else str(make())


def file_stamps(choices: Choices) -> dict[str, str]:
    """Of the models' files, by path."""
    return {str(path): stamp(path) for path in choices.models.files() or ()}


def check_parts(run_dir: Path, console: Console | None = None) -> None:
    """Refuse to merge parts of several worlds; tell where several versions computed them.

    Raises:
        ValueError: as `check_origins`.
    """
    codes = check_origins(run_dir, list(read_origins(intact_parts(run_dir))))
    if len(codes) > 1 and console is not None:
        console.print(
            f"warning: {len(codes)} versions of the program computed these parts: "
            f"{'; '.join(codes)}; {run_dir / 'identity.json'} names them"
        )


def origin_for(
    identity: Identity, sources: Mapping[str, list[list[str]]], pictures: Mapping[str, str]
) -> Origin:
    """The origin of a batch's rows."""
    items = {key: identity.items.get(key, "") for key in sources}
    code = code_words(code_version())
    return Origin(identity.model, identity.digest, code, items, dict(sources), dict(pictures))


def prints_of(item: Item) -> list[list[Any]]:
    """(path, stamp, checksum) of an item's files, as they are now."""
    return [[source.path, source.stamp, source.content()] for source in item.sources]
