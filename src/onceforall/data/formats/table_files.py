"""Read tables: the columns and rows of CSV, JSON and JSON lines files, and of annotations in COCO's format."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.files import read_text
from ...common.readable import plural
from ...errors import DataError, TaskError
from .label_lists import MULTILABEL
from .scan import listed, shown

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
MOST_BYTES = 1 << 31
MOST_COLUMNS = 6  # listed in messages
END = "\0"  # a row after the last one
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Args:
        path: the file.
        columns: names in the file's order.
        rows: values by column; empty cells are left out.
        remarks: what is doubtful about it, a line each.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    remarks: tuple[str, ...] = ()

    def column(self, names: Sequence[str], asked: str | None = None) -> str | None:
        """The requested column, or else the likeliest one by name; None if none is likely.

        Raises:
            DataError: the table lacks the requested column.
        """
        if asked is not None:
            if asked not in self.columns:
                raise DataError(f"{self.path}: no column {asked!r}: choose from {listed(self.columns, MOST_COLUMNS)}")
            return asked
        plain = {without_separators(name): name for name in reversed(self.columns)}
        return next((plain[name] for name in names if name in plain), None)


def without_separators(name: str) -> str:
    """A column's name without capitals and without what separates words."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def read_table(path: Path, *, several: bool = False) -> Table:
    """Read a table's rows, whatever their content. `several`: an image may have several labels.

    Raises:
        DataError: this is not a table of a known kind, or it is damaged.
        FileError: it cannot be read.
    """
    text = read_text(path, MOST_BYTES)
    kind = path.suffix.lower()
    if kind not in TABLES:
        raise DataError(f"{path}: a table of images is one of {', '.join(TABLES)}")
    if kind == ".json":
        return _from_json(path, text, several)
    rows = _lines(path, text) if kind in (".jsonl", ".ndjson") else _cells(path, text)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(path, columns, tuple({name: value for name, value in row.items() if value not in (None, "")} for row in rows))


def _require_end(path: Path, cells: Sequence[str], begins: int) -> None:
    if cells and cells[-1].endswith(END):
        raise DataError(f"{path}: a quote that begins in line {begins} never ends: close it")


def _cells(path: Path, text: str) -> list[dict[str, Any]]:
    """Rows of a CSV file; its separator is comma, semicolon or tab, whichever gives the first line most columns."""
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(f"{text}\n{END}", newline=""), delimiter=separator, skipinitialspace=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        twice = [name for name in head if name and head.count(name) > 1]
        if twice:
            raise DataError(f"{path}: two columns are called {twice[0]!r}: rename one")
        _require_end(path, head, 1)
        rows, begins = [], reader.line_num + 1
        for cells in reader:
            if cells == [END]:
                break
            _require_end(path, cells, begins)
            begins = reader.line_num + 1
            if len(cells) > len(head):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(cells)} cells, the first one {len(head)}: put quotes around cells "
                    "with commas, and nothing above the line of column names"
                )
            if any(cells):
                rows.append({name: cell.strip() for name, cell in zip(head, cells, strict=False)})
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} cannot be read ({error})") from None
    return rows or [dict.fromkeys(head, "")]


def _lines(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not JSON ({error})") from None
            if not isinstance(row, dict):
                raise DataError(
                    f'{path}: line {number} is {type(row).__name__}, expected an object such as {{"file_name": …, "label": …}}'
                )
            rows.append(row)
    return rows


def _from_json(path: Path, text: str, several: bool) -> Table:
    """A list of objects, or COCO's images, annotations and categories."""
    try:
        data = json.loads(text)
        if isinstance(data, dict) and {"images", "annotations", "categories"} <= set(data):
            found, remarks = _rows_of_coco(path, data, several=several)
            return Table(path, ("file_name", "label"), found, remarks)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: not a list of objects and not annotations in COCO's format ({what})") from None
    if not (isinstance(data, list) and data and all(isinstance(row, dict) for row in data)):
        return Table(path, (), ())  # something else, such as a configuration
    return Table(path, tuple(dict.fromkeys(name for row in data for name in row)), tuple(data))


def _rows_of_coco(path: Path, data: dict[str, Any], *, several: bool) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """A row for each image, with its file and its labels; and lines on what is doubtful. A `KeyError` if an entry is missing."""
    names, files = _by_id(path, data["categories"], "name"), _by_id(path, data["images"], "file_name")
    twice = [name for name, n in Counter(names.values()).items() if n > 1]
    remarks = [f"several categories are called {shown(name)}: they are one class" for name in twice[:3]]
    categories: dict[Any, set[str]] = {number: set() for number in files}
    lost = []
    for annotation in data["annotations"]:
        image, category = annotation["image_id"], annotation["category_id"]
        if category not in names:
            raise DataError(f"{path}: an annotation has the category {category}, which is not among the categories: add it")
        lost += [] if image in categories else [image]
        categories.setdefault(image, set()).add(names[category])
    if lost:
        remarks.append(f"not used: {plural(len(lost), 'annotation')} of images that are not in the file, such as image {lost[0]!r}")
    if empty := sorted(set(names.values()).difference(*categories.values())):
        remarks.append(f"not used as classes: categories without images: {listed(empty)}")
    many = [file for number, file in files.items() if len(categories[number]) > 1]
    if many and not several:
        what = f"{many[0]} has annotations of several categories ({plural(len(many), 'such image')})"
        raise TaskError(f"{path}: {what}: an image may have one class; {MULTILABEL} takes several labels")
    labels = {number: {"label": sorted(found) if several else min(found)} for number, found in categories.items() if found}
    return tuple({"file_name": file, **labels.get(number, {})} for number, file in files.items()), tuple(remarks)


def _by_id(path: Path, entries: list[dict[str, Any]], key: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for entry in entries:
        if found.setdefault(entry["id"], str(entry[key])) != str(entry[key]):
            what = f"{found[entry['id']]} and {entry[key]} both have the id {entry['id']}, which annotations refer to"
            raise DataError(f"{path}: {what}: give them different ids, also when joining files")
    return found
