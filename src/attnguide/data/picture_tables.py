"""Tables and lists of pictures: which class each has, and which to take in which order."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from attnguide.data.listing import Listing, make_listing, picture_id, readable
from attnguide.errors import InputError
from attnguide.models.reader import SUFFIXES

log = logging.getLogger(__name__)

# Names of columns, most telling first.
_NAMES = (
    *("filename", "file_name", "file", "filepath", "file_path", "path", "image_path", "img_path"),
    *("image", "img", "image_id", "imageid", "picture"),
)
_CLASSES = (
    *("wnid", "synset", "predictionstring", "label", "class", "target", "class_name"),
    *("label_name", "category", "class_id", "class_index", "label_id", "species", "y"),
)
_SEPARATORS = ",;\t|"
_NAMED = 100  # missing pictures in one message


class Entry(NamedTuple):
    """A line of a table: its number, the picture's name, and its class if it says one."""

    line: int
    name: str
    key: str | None


def read_table(table: Path, is_picture: Callable[[str], bool]) -> list[Entry] | None:
    """Pictures with their classes; None if this csv is about something else.

    Args:
        table: The file.
        is_picture: Whether a picture is called so; tells a table without a header.

    Raises:
        ValueError: a line without file name or class, or with more cells than the first.
    """
    entries = _entries(table, is_picture)
    if entries is None or all(entry.key is None for entry in entries):
        log.info("%s is left alone: it has no columns such as filename and label", table)
        return None
    return entries


def classes_of(names: Sequence[str], entries: Sequence[Entry], table: Path) -> list[str]:
    """The class of each picture: by its full name, else by its name without ending.

    Args:
        names: Of the picture files, in one folder.
        entries: All with a class.
        table: For messages.

    Raises:
        ValueError: pictures without a line, or with two classes; a name without ending that
            stands for several pictures.
    """
    files = {name: as_name(readable(name)) for name in names}
    exact = set(files.values())
    lines: dict[str, Entry] = {}
    for entry in entries:
        name = as_name(entry.name).rpartition("/")[2]
        for spelled in [name] if name in exact else {name, _stem(name)}:
            first = lines.setdefault(spelled, entry)
            if first.key != entry.key:
                raise InputError(
                    f"{table} gives {spelled} two classes, {first.key} (line {first.line}) and "
                    f"{entry.key} (line {entry.line}); keep one of them"
                )
    named: dict[str, str] = {}  # pictures by the name without ending that stands for them
    for name, file in files.items():
        stem = _stem(file)
        if file not in lines and stem in lines and named.setdefault(stem, name) != name:
            raise InputError(
                f"{table}: {stem!r} stands for {named[stem]} and for {name}; write full file names"
            )
    found = [lines.get(file) or lines.get(_stem(file)) for file in files.values()]
    missing = [name for name, entry in zip(names, found, strict=True) if entry is None]
    if missing:
        raise InputError(
            f"{table} has no line for {len(missing)} of {len(names)} pictures, such as "
            f"{readable(missing[0])}; add them, or move the pictures away"
        )
    return [str(entry.key) for entry in found if entry is not None]


def listed(listing: Listing, file: Path) -> Listing:
    """Exactly the pictures of a list, in its order, with its classes where it gives them.

    Args:
        listing: All pictures.
        file: Paths or ids, one per line, or a csv whose columns or first cell say so.

    Raises:
        ValueError: no such file, or nothing in it; missing pictures, all of them named; a line
            that may mean several pictures; a picture that is listed twice.
    """
    if not file.is_file():
        raise InputError(f"data.list {str(file)!r} is not a file; pass a list of pictures")
    known = _places_by_name(listing)
    entries = _entries(file, lambda name: name in known)
    if entries is None:
        lines = enumerate(_read_text(file).splitlines(), 1)
        entries = [Entry(number, line.strip(), None) for number, line in lines if line.strip()]
    if not entries:
        raise InputError(f"data.list {str(file)!r} is empty; write one picture per line")
    ids = listing.column("id")
    chosen: dict[int, Entry] = {}
    missing = []
    for entry in entries:
        places = _find(entry.name, known)
        if len(places) > 1:
            names = ", ".join(ids[place] for place in sorted(places)[:3])
            raise InputError(f"{file} line {entry.line}: {entry.name} may be {names}; write the id")
        if not places:
            missing.append(entry.name)
        for place in places:
            first = chosen.setdefault(place, entry)
            if first is not entry:
                raise InputError(
                    f"{file} names {entry.name} twice, in lines {first.line} and {entry.line}; "
                    "remove one"
                )
    if missing:
        more = f", ... ({len(missing)} in all)" if len(missing) > _NAMED else ""
        raise InputError(
            f"{len(missing)} of {len(entries)} pictures of {file} are missing in {listing.form}: "
            f"{', '.join(missing[:_NAMED])}{more}; write ids or paths below data.root"
        )
    part = Listing("", listing.dataset.select(list(chosen)))
    labelled = entries[0].key is not None
    return make_listing(
        f"{len(entries)} pictures of the list {file} in {listing.form}",
        part.column("id"),
        [entry.key for entry in entries] if labelled else part.column("key"),
        part.column("file"),
        part.column("row"),
        encoded=listing.encoded,
        are_indices=listing.are_indices and not labelled,
    )


def as_name(name: str) -> str:
    """A picture's name as tables and file systems may both write it."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")


def _entries(table: Path, is_picture: Callable[[str], bool]) -> list[Entry] | None:
    """The rows of a table whose first line names the columns, or is a picture's with its class."""
    import pandas as pd

    text = _read_text(table)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)
    titles = [cell.strip(' "').lower() for cell in first.split(separator)]
    name = next((titles.index(title) for title in _NAMES if title in titles), None)
    key = next((titles.index(title) for title in _CLASSES if title in titles), None)
    has_header = name is not None and (key is not None or len(titles) == 1)
    if not has_header:
        cell = as_name(first.split(separator)[0].strip('"'))
        if len(titles) == 1 or not is_picture(cell):
            return None
        name, key = 0, 1
    try:
        rows = pd.read_csv(
            StringIO(text), sep=separator, header=None, dtype=str, na_filter=False,
            skip_blank_lines=False,
        )  # fmt: skip
    except ValueError as error:  # pandas' own errors among them
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"{table}: {reason}; put quotes around cells that hold the separator"
        ) from error
    boxed = key is not None and titles[key] == "predictionstring"  # "n01440764 83 1 99 272"
    lines = [(n, [str(cell).strip() for cell in row]) for n, row in enumerate(rows.to_numpy(), 1)]
    lines = [line for line in lines if any(line[1])][has_header:]
    entries = []
    for line, row in lines:
        label = None if key is None else row[key].split(" ")[0] if boxed else row[key]
        if not row[name or 0] or label == "":
            raise InputError(f"{table} line {line}: file name or class is missing")
        entries.append(Entry(line, row[name or 0], label))
    return entries


def _read_text(file: Path) -> str:
    """A text file in UTF-8, or else Latin-1.

    Raises:
        ValueError: not text, or text in another encoding.
    """
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        log.info("%s is not in UTF-8; it is read as Latin-1", file)
        text = raw.decode("latin-1")
    if "\0" in text:
        raise InputError(f"{file} is not text in UTF-8; save it again as CSV UTF-8")
    return text


def _stem(name: str) -> str:
    """The name without the ending of a picture; other dots belong to it."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in SUFFIXES else name


def _places_by_name(listing: Listing) -> dict[str, set[int]]:
    """Places of the pictures by all that a list may call them."""
    known: dict[str, set[int]] = defaultdict(set)
    rows = zip(listing.column("id"), listing.column("file"), listing.column("row"), strict=True)
    for place, (name, file, row) in enumerate(rows):
        short = name.rpartition("/")[2]
        paths = {os.fsdecode(file)} if row is None else set()
        for spelled in {name, short, *paths}:
            known[as_name(spelled)].add(place)
            known[_stem(as_name(spelled))].add(place)
    for place, name in enumerate(listing.column("id")):  # an id in full means this picture alone
        known[as_name(name)] = {place}
    return known


def _find(name: str, known: dict[str, set[int]]) -> set[int]:
    """Places of the pictures that a line may mean: by its full name, else by ImageNet's."""
    path = as_name(str(Path(name).expanduser()))
    spelled = (as_name(name), path, as_name(os.path.abspath(path)), picture_id(as_name(name)))
    return next((known[text] for text in spelled if text in known), set())
