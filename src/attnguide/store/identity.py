"""One run, one world: what a run's numbers are made of, by contents, and how that may change."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attnguide.errors import InputError
from attnguide.store.config import flat
from attnguide.store.files import locked, subfolder, write_atomic
from attnguide.store.origins import Origin
from attnguide.store.sources import checksum

FILE = "identity.json"
DECIDE = ("attnguide", "torch", "timm")  # packages whose version decides numbers
_NAMED = 3  # items in a message


@dataclass(frozen=True)
class Identity:
    """What the numbers of one model in a run are made of.

    Attributes:
        model: Its name.
        settings: Checksum of the settings that count.
        facts: Checksums by what they are of, as messages call it: weights, class names, guide.
        items: The complete list: label, then what else decides the item's rows, by its key.
        files: Stamps of the files of model and guide, by path.
    """

    model: str
    settings: str
    facts: Mapping[str, str]
    items: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of settings and facts: parts that name another one are of another run."""
        return checksum(json.dumps([self.model, self.settings, sorted(self.facts.items())]))


@dataclass
class Changes:
    """What is not as it was when rows were stored, in words; and whose rows are stale.

    Attributes:
        words: What changed.
        whole: Nothing of the model's rows is kept.
        items: Keys of the items whose rows are not kept.
    """

    words: list[str] = field(default_factory=list)
    whole: bool = False
    items: set[str] = field(default_factory=set)

    def add_items(self, what: str, keys: Iterable[str]) -> None:
        """Items whose `what` changed."""
        keys = sorted(keys)
        if keys:
            names = ", ".join(key.partition("|")[2] for key in keys[:_NAMED])
            more = f", ... ({len(keys)} in all)" if len(keys) > _NAMED else ""
            self.words.append(f"{what} of {names}{more}")
            self.items |= set(keys)


def settings_digest(config: Mapping[str, Any], free: tuple[str, ...]) -> str:
    """Checksum of all settings but those that say where and how fast."""
    own = {key: value for key, value in flat(config).items() if not key.startswith(free)}
    return checksum(json.dumps(own, sort_keys=True, default=str))


def read_identities(run_dir: Path) -> dict[str, Any]:
    """What `identity.json` holds: code, models by name; empty where it is absent or damaged."""
    try:
        stored = json.loads((run_dir / FILE).read_text())
        models = {
            name: Identity(**{**entry, "model": name}) for name, entry in stored["models"].items()
        }
        return {"code": [dict(code) for code in stored["code"]], "models": models}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_identity(run_dir: Path, identity: Identity) -> list[dict[str, str]]:
    """Store the identity of a model's rows, and the version of the code.

    Returns:
        The versions that earlier lives of the run had, where they were others.
    """
    with locked(subfolder(run_dir, "parts") / "identity.lock"):
        stored = read_identities(run_dir)
        models, codes = stored.get("models", {}), stored.get("code", [])
        before = models.get(identity.model)
        files = {} if before is None else dict(before.files)
        models[identity.model] = Identity(
            identity.model, identity.settings, identity.facts, identity.items,
            files | dict(identity.files),
        )  # fmt: skip
        now = code_version()
        earlier = [code for code in codes if code != now]
        values = {
            "code": [*earlier, now],
            "models": {
                name: {key: value for key, value in vars(own).items() if key != "model"}
                for name, own in models.items()
            },
        }
        data = json.dumps(values, indent=0).encode()
        if not (run_dir / FILE).is_file() or (run_dir / FILE).read_bytes() != data:
            write_atomic(run_dir / FILE, data)
    return earlier


def compare(
    before: Identity | None, now: Identity, origins: Sequence[tuple[Path, Origin | None]]
) -> Changes:
    """What changed since a model's rows were stored.

    Args:
        before: What `identity.json` says.
        now: What is true now.
        origins: Of the parts with the model's rows, and of those that do not say.
    """
    changes = Changes()
    if before is not None:
        names = {**before.facts, **now.facts}
        other = [n for n in names if before.facts.get(n) != now.facts.get(n)]
        changes.words += other
        changes.whole = bool(other)
        _compare_items(before.items, now.items, changes)
    foreign = [path for path, origin in origins if origin is None or origin.identity != now.digest]
    if foreign and not changes.whole:
        changes.words.append(
            f"{len(foreign)} parts are of another run, or of other weights or another guide "
            f"({foreign[0].name})"
        )
        changes.whole = True
    for _, origin in origins:
        if origin is not None and before is None:
            own = {key: now.items[key] for key in origin.items if key in now.items}
            _compare_items(origin.items, own, changes)
        elif origin is not None:
            stale = {k for k, entry in origin.items.items() if now.items.get(k) != entry}
            changes.add_items("what is known", stale - changes.items)
    return changes


def _compare_items(before: Mapping[str, str], now: Mapping[str, str], changes: Changes) -> None:
    new, gone = now.keys() - before.keys(), before.keys() - now.keys()
    if new or gone:
        example = sorted(new or gone)[0].partition("|")[2]
        changes.words.append(
            f"the list of pictures ({len(new)} more, {len(gone)} fewer, such as {example})"
        )
        changes.items |= gone
    differ = {key for key in before.keys() & now.keys() if before[key] != now[key]}
    labels = {key for key in differ if before[key].split("|")[0] != now[key].split("|")[0]}
    changes.add_items("the labels", labels)
    if not (new or gone):
        changes.add_items("place, boxes or classes", differ - labels)
    changes.items |= differ


def refuse(run_dir: Path, model: str, changes: Changes) -> InputError:
    """The error for a run whose inputs are others now."""
    return InputError(
        f"{run_dir} was begun with other inputs: {'; '.join(changes.words)} of model {model}; pass "
        "another run_dir"
    )


def check_origins(run_dir: Path, origins: Sequence[tuple[Path, Origin | None]]) -> list[str]:
    """Refuse parts of several worlds in one run.

    Returns:
        The versions of the code that computed the parts.

    Raises:
        ValueError: a part of another run or of other inputs, which one, and what to do.
    """
    models: dict[str, Identity] = read_identities(run_dir).get("models", {})
    first: dict[str, str] = {name: identity.digest for name, identity in models.items()}
    codes: dict[str, None] = {}
    for path, origin in origins:
        if origin is None:
            if models:
                raise _foreign(path, run_dir)
            continue
        codes[origin.code] = None
        if first.setdefault(origin.model, origin.identity) != origin.identity:
            raise _foreign(path, run_dir)
        known = models.get(origin.model)
        for key, entry in origin.items.items() if known is not None else ():
            assert known is not None
            if known.items.get(key) != entry:
                raise InputError(
                    f"{path} holds rows of {key.partition('|')[2]}, whose label or place was "
                    f"another: use another run_dir"
                )
    return list(codes)


def _foreign(path: Path, run_dir: Path) -> InputError:
    return InputError(
        f"{path} was computed for another run, or from other weights or another guide than "
        f"{run_dir / FILE} says; remove it and run its shard again, or use another run_dir"
    )


def code_version() -> dict[str, str]:
    """What decides numbers beside the inputs: versions, commit, checksum of the source."""
    return dict(_code_version())


@cache
def _code_version() -> dict[str, str]:
    found = {}
    for name in DECIDE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    package = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(path.read_bytes())
    commit = ""
    if (package.parents[1] / ".git").exists():
        words = ["git", "-C", str(package), "rev-parse", "HEAD"]
        try:
            commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            commit = ""
    return found | {"commit": commit.strip(), "source": total.hexdigest()[:16]}


def code_words(code: Mapping[str, str]) -> str:
    """A version in one text."""
    return ", ".join(f"{name} {value}" for name, value in code.items() if value)
