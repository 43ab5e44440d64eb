"""Tables and lists of pictures: which class each has, and which to take in which order."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from attnguide.data.listing import Listing
from attnguide.errors import InputError

log = logging.getLogger(__name__)

_LAST_BLANK = r"\s+(?=\S+\s*$)"  # of "PATH CLASS"
TABLES = (".csv", ".tsv", ".jsonl")
# Names of columns, most telling first.
NAMES = (
    *("filename", "file_name", "file", "filepath", "file_path", "path", "image_path", "img_path"),
    *("image", "img", "image_id", "imageid", "picture"),
)
CLASSES = (
    *("wnid", "synset", "predictionstring", "label", "labels", "class", "target", "class_name"),
    *("label_name", "category", "fine_label", "cls", "class_id", "class_index", "label_id"),
    *("species", "y"),
)


class Entry(NamedTuple):
    """A line of a table: its number, the picture's name, and its class if it says one."""

    line: int
    name: str
    key: str | None


def with_classes(listing: Listing, tables: Iterable[Path]) -> Listing | None:
    """The pictures with the classes of the table that is about them; None if no table is.

    A table that names pictures of the folder itself alone says nothing of those in its folders,
    which are left out then.

    Args:
        listing: All pictures, with the classes that their folders say.
        tables: Files that may be about them.

    Raises:
        ValueError: lines that cannot be read or contradict each other, tables or folders that do;
            pictures without a line that are in no folder.
    """
    pictures = listing.photographs
    beside = {place for place, picture in enumerate(pictures) if picture.key is None}
    answers: dict[Path, dict[int, str]] = {}
    for table in tables:
        try:
            entries = read_table(table, listing)
        except InputError as error:
            if beside:  # pictures whose classes nothing else says
                raise
            log.info("passed over: %s", error)
            continue
        if entries is None or any(entry.key is None for entry in entries):
            log.info("%s is passed over: it has no columns such as filename and label", table)
        elif keys := _keys(listing, entries, table):
            answers[table] = keys
        else:
            log.info("%s is passed over: it names none of these pictures", table)
    if not answers:
        return None
    for (one, first), (other, second) in combinations(answers.items(), 2):
        pairs = {(first[place], second[place]) for place in first.keys() & second.keys()}
        if not _agree(pairs):
            raise InputError(f"{one} and {other} give pictures different classes; remove one")
    table = max(answers, key=lambda table: len(answers[table]))
    keys = answers[table]
    scope = beside if keys.keys() <= beside else set(range(len(pictures)))
    missing = sorted(scope - keys.keys())
    if missing and scope - beside:
        log.info("%s is passed over: it has no line for %d pictures", table, len(missing))
        return None
    if missing:
        raise InputError(
            f"{table} has no line for {len(missing)} of {len(scope)} pictures, such as "
            f"{pictures[missing[0]].id}; add them, or move the pictures away"
        )
    folders = {(str(pictures[place].key), keys[place]) for place in scope - beside}
    if {first for first, _ in folders} & {second for _, second in folders} and not _agree(folders):
        raise InputError(
            f"{table} and the folders give pictures different classes; move the table away, or "
            "the pictures into one folder"
        )
    return Listing(
        f"{listing.form}, classes from {table.name}",
        [pictures[place]._replace(key=keys[place]) for place in sorted(scope)],
    )


def _keys(listing: Listing, entries: Sequence[Entry], table: Path) -> dict[int, str]:
    """Classes by the places of pictures; a name of several in different folders says nothing."""
    lines: dict[int, Entry] = {}
    for entry in entries:
        places = sorted(listing.places(entry.name))
        names = [listing.photographs[place].id for place in places]
        if len(places) > 1 and any(listing.photographs[place].key is None for place in places):
            raise InputError(
                f"{table}: {entry.name!r} stands for {names[0]} and for {names[1]}; write full "
                "file names"
            )
        for place in places[: len(places) == 1]:
            first = lines.setdefault(place, entry)
            if first.key != entry.key:
                raise InputError(
                    f"{table} gives {names[0]} two classes, {first.key} (line {first.line}) and "
                    f"{entry.key} (line {entry.line}); keep one of them"
                )
    return {place: str(entry.key) for place, entry in lines.items()}


def _agree(pairs: set[tuple[str, str]]) -> bool:
    """Whether two sources mean the same classes, in the same words or each in other ones."""
    first, second = {one for one, _ in pairs}, {other for _, other in pairs}
    if first & second:
        return all(one == other for one, other in pairs)
    return len(pairs) == len(first) == len(second)


def listed(listing: Listing, file: Path) -> Listing:
    """Exactly the pictures of a list, in its order, with its classes where it gives them.

    Args:
        listing: All pictures.
        file: Paths or ids, one per line, or a table whose columns or first cell say so.

    Raises:
        ValueError: no such file, or nothing in it; missing pictures, all of them named; a line
            that may mean several pictures; a picture that is listed twice.
    """
    if not file.is_file():
        raise InputError(f"data.list {str(file)!r} is not a file; pass a list of pictures")
    text = _read_text(file).strip()
    if file.suffix != ".jsonl" and text[:1] + text[-1:] in ("[]", "{}"):
        raise InputError(
            f"data.list {str(file)!r} is JSON; write one picture per line, a csv with the columns "
            "filename and label, or an object with these in every line of a .jsonl file"
        )
    entries = read_table(file, listing)
    if entries is None:
        lines = enumerate(text.splitlines(), 1)
        entries = [Entry(number, line.strip(), None) for number, line in lines if line.strip()]
    if not entries:
        raise InputError(f"data.list {str(file)!r} is empty; write one picture per line")
    chosen: dict[int, Entry] = {}
    missing = []
    for entry in entries:
        places = listing.places(entry.name)
        if len(places) > 1:
            names = ", ".join(listing.photographs[place].id for place in sorted(places)[:3])
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
        raise InputError(
            f"{len(missing)} of {len(entries)} pictures of {file} are missing in {listing.form}: "
            f"{', '.join(missing[:100])}; write ids or paths below data.root"
        )
    pictures = [listing.photographs[place] for place in chosen]
    labelled = entries[0].key is not None
    if labelled:
        pictures = [p._replace(key=e.key) for p, e in zip(pictures, entries, strict=True)]
    return replace(
        listing,
        form=f"{len(entries)} pictures of the list {file} in {listing.form}",
        photographs=pictures,
        are_indices=listing.are_indices and not labelled,
    )


def read_table(table: Path, listing: Listing) -> list[Entry] | None:
    """The lines of a table whose first line names the columns, or is a picture's with its class.

    Returns:
        None where no column holds names of pictures, or none holds classes.

    Raises:
        ValueError: a line without file name or class, or with more cells than the first.
    """
    text = _read_text(table)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t|", key=first.count)
    titles = first.split(separator)
    if len(titles) == 1 and listing.places(first.rpartition(" ")[0]):
        separator, titles = _LAST_BLANK, first.rsplit(maxsplit=1)
    is_json = table.suffix == ".jsonl"
    titles = [cell.strip(' "') for cell in titles]
    titles = _cells(table, text, separator)[0] if is_json else titles
    known = [title.lower() for title in titles]
    name = next((known.index(title) for title in NAMES if title in known), None)
    key = next((known.index(title) for title in CLASSES if title in known), None)
    has_header = name is not None and (key is not None or len(titles) == 1)
    if not has_header:
        if len(titles) < 2 or not listing.places(titles[0]):
            return None
        name, key = 0, 1
    lines = [(n, row) for n, row in enumerate(_cells(table, text, separator), 1) if any(row)]
    lines = lines[has_header:]
    entries = []
    for line, row in lines:
        label: str | None = None
        if key is not None:
            label = re.sub(r"^(\d+)\.0$", r"\1", row[key])  # as pandas writes numbers with gaps
            if known[key] == "predictionstring":  # "n01440764 83 1 99 272"
                label = label.split(" ")[0]
        if not row[name or 0] or label == "":
            raise InputError(f"{table} line {line}: file name or class is missing")
        entries.append(Entry(line, row[name or 0], label))
    return entries


def _cells(table: Path, text: str, separator: str) -> list[list[str]]:
    """Rows of text, the titles among them."""
    import pandas as pd

    try:
        if table.suffix == ".jsonl":
            frame = pd.DataFrame([json.loads(line or "{}") for line in text.splitlines()])
            frame = pd.DataFrame([frame.columns, *frame.fillna("").to_numpy()])
        else:
            frame = pd.read_csv(
                StringIO(text), sep=separator, header=None, dtype=str, na_filter=False,
                skip_blank_lines=False, engine="python" if separator == _LAST_BLANK else "c",
            )  # fmt: skip
    except ValueError as error:  # pandas' own errors among them
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"{table}: {reason}; put quotes around cells that hold the separator"
        ) from error
    return [[str(cell).strip() for cell in row] for row in frame.to_numpy()]


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
