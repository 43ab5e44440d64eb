"""Tables of pictures and classes: csv of any encoding and separator, and lists of pictures."""

from __future__ import annotations

import codecs
import csv
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from attnguide.data.dataset import readable
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
_SEPARATORS = (",", ";", "\t", "|")
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


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
        ValueError: a line without file name or class, or with more cells than the header.
    """
    entries = _entries(table, is_picture)
    if entries is None or all(entry.key is None for entry in entries):
        log.info("%s is left alone: it has no columns such as filename and label", table)
        return None
    return entries


def read_list(file: Path, is_picture: Callable[[str], bool]) -> list[Entry]:
    """Pictures one per line, or the rows of a csv, with classes where it has them.

    Args:
        file: The list.
        is_picture: As in `read_table`.

    Raises:
        ValueError: no such file, or nothing in it; a broken line of a csv.
    """
    if not file.is_file():
        raise InputError(f"data.list {str(file)!r} is not a file; pass a list of pictures")
    entries = _entries(file, is_picture)
    if entries is None:
        lines = enumerate(read_text(file).split("\n"), 1)
        entries = [Entry(number, line.strip(), None) for number, line in lines if line.strip()]
    if not entries:
        raise InputError(f"data.list {str(file)!r} is empty; write one picture per line")
    return entries


def read_text(file: Path) -> str:
    """A text file in UTF-8, UTF-16 with a mark, or else Latin-1.

    Raises:
        ValueError: not text, or text in another encoding.
    """
    raw = file.read_bytes()
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        log.info("%s is not in UTF-8; it is read as Latin-1", file)
        text = raw.decode("latin-1")
    if "\0" in text:
        raise InputError(f"{file} is not text in UTF-8; save it again as CSV UTF-8")
    return text


def as_name(name: str) -> str:
    """A picture's name as tables and file systems may both write it."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")


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
    lines: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        lines[as_name(entry.name).rpartition("/")[2]].append(entry)
    pictures = {name: as_name(readable(name)) for name in names}
    left = [name for name in names if pictures[name] not in lines]
    matched = {name: lines[pictures[name]] for name in names if pictures[name] in lines}
    taken = {pictures[name] for name in matched}
    stems: dict[str, list[Entry]] = defaultdict(list)
    for name, found in lines.items():
        if name not in taken:
            stems[_stem(name)] += found
            stems[name] += found if _stem(name) != name else []
    shared: dict[str, str] = {}
    for name in left:
        stem = pictures[name].rpartition(".")[0]
        if stem in stems and shared.setdefault(stem, name) != name:
            raise InputError(
                f"{table}: {stem!r} stands for {shared[stem]} and for {name}; write full file names"
            )
        if stem in stems:
            matched[name] = stems[stem]
    missing = [name for name in names if name not in matched]
    if missing:
        raise InputError(
            f"{table} has no line for {len(missing)} of {len(names)} pictures, such as "
            f"{readable(missing[0])}; add them, or move the pictures away"
        )
    return [_class_of(readable(name), matched[name], table) for name in names]


def _class_of(name: str, found: Sequence[Entry], table: Path) -> str:
    """The class on which all lines of a picture agree."""
    first = found[0]
    other = next((entry for entry in found if entry.key != first.key), None)
    if other is not None or first.key is None:
        second = f"{other.key} (line {other.line})" if other else "none"
        raise InputError(
            f"{table} gives {name} two classes, {first.key} (line {first.line}) and {second}; "
            "keep one of them"
        )
    return first.key


def _stem(name: str) -> str:
    """The name without the ending of a picture; other dots belong to it."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in SUFFIXES else name


def _entries(table: Path, is_picture: Callable[[str], bool]) -> list[Entry] | None:
    """The rows under a header that names the columns, or of a table without a header."""
    text = read_text(table)
    for separator in _SEPARATORS:
        rows = _rows(table, text, separator)
        first, header = next(rows, (0, []))
        titles = [title.strip().lower() for title in header]
        name = next((titles.index(title) for title in _NAMES if title in titles), None)
        key = next((titles.index(title) for title in _CLASSES if title in titles), None)
        if name is not None and (key is not None or len(titles) == 1):
            boxed = key is not None and titles[key] == "predictionstring"
            return [_entry(table, *row, (name, key), len(titles), boxed=boxed) for row in rows]
        if len(header) > 1 and is_picture(as_name(header[0])):
            everything = [(first, header), *rows]
            return [_entry(table, *row, (0, 1), len(header)) for row in everything]
    return None


def _rows(table: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{table} line {reader.line_num}: {error}") from error


def _entry(
    table: Path,
    line: int,
    row: Sequence[str],
    columns: tuple[int, int | None],
    width: int,
    *,
    boxed: bool = False,
) -> Entry:
    """A row's name and class.

    Args:
        table, line: For messages.
        row: Its cells.
        columns: Of the name, and of the class if there is one.
        width: How many cells the header has.
        boxed: The class is the first word, before boxes: "n01440764 83 1 99 272".
    """
    if any(cell.strip() for cell in row[width:]):
        raise InputError(
            f"{table} line {line} has {len(row)} cells and the header {width}; put quotes around "
            "cells that hold the separator"
        )
    cells = ["" if c is None or c >= len(row) else row[c].strip() for c in columns]
    words = cells[1].split() if boxed else [cells[1]]
    name, key = cells[0], (words or [""])[0]
    if not name or (columns[1] is not None and not key):
        raise InputError(f"{table} line {line}: file name or class is missing")
    return Entry(line, name, None if columns[1] is None else key)
