"""Tables of images and labels: CSV and JSON lines as people write them, metadata files of the Hugging Face Hub, and annotations
in COCO's format, whose categories are the labels."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...common.files import reading_or_writing
from ...common.readable import plural
from ...errors import DataError, FileError, TaskError
from ..originals import Indices, Load, Part, Source, digest, file_mark
from ..reading import Reading
from .label_lists import (
    LIST_COLUMNS,
    MULTILABEL,
    columns_of,
    is_column_of_truths,
    label_text,
    matrix_of,
    no_group,
    order_of,
    reader_of,
    require_classes,
    require_one_label,
    truth,
)
from .scan import SUFFIXES, LeftOut, listed, mark_of, note_unnamed, other_forms, printable, same_name, walk
from .split_names import COLUMNS, Role, arrange, role_of, tells_split
from .table_files import MOST_COLUMNS, TABLES, Row, Table, read_table, without_separators

METADATA = ("metadata.csv", "metadata.jsonl")  # beside images, by the Hugging Face Hub's convention
# Names of columns, likeliest first, in lowercase without separators between words.
IMAGES = (
    "filename", "file", "filepath", "path", "image", "imagepath", "imagefile", "imagefilename", "imagename", "imageid", "img",
    "imgpath", "relpath", "photo", "picture", "id", "name",
)  # fmt: skip
LABELS = (
    "label", "labels", "class", "classname", "classlabel", "category", "categoryname", "target", "finelabel", "cls", "classid",
    "labelname", "choice",
)  # fmt: skip
MOST_MISSING = 0.1  # share of a table's images; if more are missing, the folder is probably wrong
MOST_BESIDE = 1 << 26  # bytes of a table that is only looked at


def tables_in(root: Path, reading: Reading, left_out: LeftOut) -> list[Table]:
    """Tables of images and labels in a folder: metadata files in it or in its splits' folders, or else other tables there.

    Raises:
        DataError: a table that is the only one, or named after a split, is damaged.
        FileError: it cannot be read.
    """
    with reading_or_writing(root):
        entries = sorted(root.iterdir())
        splits = [folder for folder in entries if role_of(folder.name) and folder.is_dir()]
        inner = [path for folder in splits for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES]
    metadata = [path for path in (*entries, *inner) if path.name.lower() in METADATA]
    for paths in (metadata, entries, inner):
        files = [path for path in paths if path.suffix.lower() in TABLES and path.is_file() and path.name[0] != "."]
        found = []
        for path in files:
            try:
                found.append(read_table(path, several=reading.several))
            except (DataError, FileError):
                if len(files) == 1 or role_of(path.stem) or path.parent != root:
                    raise
                left_out.setdefault("damaged table", []).append(path.name)
        if named := [table for table in found if _names_images(table, reading)]:
            others = [os.path.relpath(table.path, root) for table in found if table.rows and table not in named]
            left_out |= {"table without labels of images in columns of known names": others} if others else {}
            return named
        for table in found if reading.label is None else ():
            first = _text(table.rows[0].get(table.column(IMAGES) or "")) if table.rows else ""
            if first and (table.path.parent / first).is_file() and len(_truths(table)) > 1:
                _require_columns(table, reading)  # its error says how columns of 0 and 1 are read
    return []


def table_beside(root: Path, names: Iterable[str], classes: int) -> str:
    """The name of a table beside class folders that names their images, given by `names`; "" if there is none."""
    stems = set[str]()
    for path in sorted(root.iterdir()):
        if path.name.lower() in METADATA:
            return path.name
        if path.suffix.lower() in TABLES and path.is_file() and path.stat().st_size < MOST_BESIDE:
            with suppress(DataError, FileError):
                table = read_table(path, several=True)
                image = table.column(IMAGES)
                stems = stems or {_stem(name) for name in names}
                first = [_stem(_text(row.get(image or ""))) for row in table.rows[: classes + 1]]
                if image and len(first) > classes and stems.issuperset(first):
                    return path.name
    return ""


def open_tables(root: Path, tables: Sequence[Table], reading: Reading, left_out: LeftOut) -> Source:
    """Images and labels from a single table (with or without a column of splits), or from one table per split.

    Args:
        root: given by the user: a table, or the folder of the tables.
        tables: the tables of images and labels.
        reading: `label` is the column of labels; None for the likeliest name.
        left_out: unused files and rows are added to it.

    Raises:
        DataError: there is no column of images or labels, an image has different labels, too many images are missing, or there is
            more than one reading.
    """
    roles: dict[str, Role] = {}
    for table in tables if len(tables) > 1 else []:
        role = role_of(table.path.stem) or (role_of(table.path.parent.name) if table.path.parent != root else None)
        if role is None:
            these = listed((os.path.relpath(table.path, root) for table in tables), 6)
            raise DataError(f"{root}: which of its tables, {these}? Give one, or name them after splits (train.csv, test.csv)")
        roles[str(table.path)] = role
    chosen = arrange(roles, str(root)) if roles else [str(tables[0].path)]
    by_path = {str(table.path): table for table in tables}
    rows = [_Rows(root, by_path[path], reading, left_out) for path in chosen]
    splits = [list(entries) for entries in (rows[0].by_split() if len(rows) == 1 else [each.entries for each in rows])]
    names = sorted({name for split in splits for entry in split for name in entry.labels}, key=order_of)
    if rows[0].by_column:  # labels in the order of the requested columns
        names = list(dict.fromkeys(name for each in rows for name in each.labels))
    note_unnamed(root, {entry.path for split in splits for entry in split}, set().union(*(each.without for each in rows)), left_out)
    numbers = {name: number for number, name in enumerate(names)}
    grouped = any(each.group is not None for each in rows)
    lacking = [str(each.table.path) for each in rows if grouped and each.group is None]
    if lacking:
        raise DataError(f"{lacking[0]}: no column {reading.group!r}, which other tables of {root} have: all need it")
    parts = [_part(root, split, numbers, grouped=grouped, several=reading.several) for split in splits]
    without = sum(not entry.labels for split in splits for entry in split)
    remarks = [remark for each in rows for remark in each.remarks]
    if without:
        remarks.append(f"{plural(without, 'image')} without any label")
    files = [*(str(each.table.path) for each in rows), *(entry.path for split in splits for entry in split)]
    return Source.of(str(root), map(printable, names), parts, left_out, dict.fromkeys(remarks), files)


@dataclass(frozen=True)
class _Entry:
    """A row: its number, image, labels, split and group."""

    row: int
    path: str
    labels: tuple[str, ...]
    split: str
    group: str = ""


class _Rows:
    """A table's rows as images with labels."""

    def __init__(self, root: Path, table: Table, reading: Reading, left_out: LeftOut) -> None:
        self.root, self.table, self.base, self.several = root, table, table.path.parent, reading.several
        self.images, self.labels = _require_columns(table, reading)
        self.by_column = len(self.labels) > 1
        values = [row[self.labels[0]] for row in table.rows if self.labels[0] in row]
        where = f"{table.path}: the column {self.labels[0]}"
        self.read_list: Callable[[Any, str], tuple[str, ...]] | None = None
        remark = ""
        if self.several and not self.by_column:
            self.read_list, remark = reader_of(values, where)
        if reading.task is None:
            require_one_label(values, where)
            if not reading.few:
                require_classes(values, where)
        self.splits = table.column(COLUMNS)
        self.group = reading.group if reading.group in table.columns else None
        self.remarks = [*table.remarks, *([remark] if remark else []), *self._not_read()]
        self.by_name = False
        self.without = set[str]()  # images without a label
        self.entries = self._read(left_out)
        others = [name for name in table.columns if without_separators(name) in LABELS and name not in self.labels]
        if others and reading.label is None:
            self.remarks.append(
                f"labels are those of the column {self.labels[0]}, not of {listed(others, 6)} (--label NAME for another)"
            )

    @cached_property
    def there(self) -> dict[str, list[str]]:
        """The images below the table's folder, by name, and by name without suffix."""
        found: dict[str, list[str]] = {}
        with reading_or_writing(self.base):
            paths = sorted(f.entry.path for f in walk(str(self.base), {mark_of(str(self.base))}) if f.kind == "image")
        for path in paths:
            name = os.path.basename(path)
            for key in {same_name(name), same_name(os.path.splitext(name)[0])}:
                found.setdefault(key, []).append(path)
        return found

    def _not_read(self) -> Iterator[str]:
        """Lines on columns that seem to name splits but are not used."""
        for name in self.table.columns if self.splits is None else ():
            values = (row[name] for row in self.table.rows if name in row)
            if name not in (self.images, *self.labels, self.group) and tells_split(name, values):
                yield f"the column {printable(name)} seems to name splits, but is not used: if it does, call it split"

    def _find(self, name: str) -> str | None:
        """The file that a row names: by path, by path without suffix, or as the only file of that name below the table's folder."""
        path = os.path.join(self.base, os.path.expanduser(name.replace("\\", "/") if os.sep == "/" else name))
        named, found = False, list[str]()
        for suffixes in ("",), () if os.path.splitext(name)[1] in SUFFIXES else SUFFIXES:
            forms = (next(filter(os.path.isfile, other_forms(path + suffix)), "") for suffix in suffixes)
            found = found or [os.path.normpath(form) for form in forms if form]
        if not found and not os.path.dirname(name):
            named, found = True, self.there.get(same_name(name), [])
        if len(found) > 1:
            first, second = (os.path.relpath(path, self.base) for path in found[:2])
            raise DataError(f"{self.table.path}: is {name} {first} or {second}? Write paths{'' if named else ' with suffixes'}")
        if named and found and not self.by_name:
            self.by_name = True
            example = f"{os.path.relpath(found[0], self.base)} for {printable(name)}"
            self.remarks.append(f"images are found by name below {self.base}, such as {example}")
        return found[0] if found else None

    def _read(self, left_out: LeftOut) -> list[_Entry]:
        seen: dict[str, _Entry] = {}
        missing, first, alone, added = 0, "", 0, 0
        for number, row in enumerate(self.table.rows, 1):
            name = row.get(self.images)
            if isinstance(name, list | dict):
                raise DataError(f"{self.table.path}: row {number} has {name!r} in the column {self.images}: a path is expected")
            name = _text(name)
            where = f"{printable(os.path.basename(self.table.path))}[{number}]"
            if not name:
                left_out.setdefault("row without an image", []).append(where)
                continue
            labels = self._labels_of(row, number)
            path = self._find(name)
            if not labels and not self.several:
                left_out.setdefault("row without a label", []).append(f"{where} {printable(name)}")
                self.without.add(path or "")
                continue
            if path is None:
                missing, first = missing + 1, first or name
                left_out.setdefault("missing image that a row names", []).append(printable(name))
                continue
            split, group = (_text(row.get(column)) if column else "" for column in (self.splits, self.group))
            alone += self.group is not None and not group
            entry = _Entry(number, path, labels, split, group or where)
            before = seen.setdefault(path, entry)
            if before is not entry:
                if before.split == split and self.read_list is not None:
                    if more := [name for name in labels if name not in before.labels]:
                        seen[path] = replace(before, labels=(*before.labels, *more))
                        added += 1
                        continue
                elif (set(before.labels), before.split) != (set(labels), split):
                    two = " and ".join(f"{', '.join(each.labels)} {each.split}".strip() for each in (before, entry))
                    what = f"{self.table.path}: {name} is in rows {before.row} and {number} as {two}: keep one"
                    if self.several or before.split != split:
                        raise DataError(what)
                    raise TaskError(f"{what}, or {MULTILABEL} takes both")
                left_out.setdefault("row of an image that another row names", []).append(f"{where} {printable(name)}")
        if not seen or missing > MOST_MISSING * len(self.table.rows):
            if not missing:
                raise DataError(
                    f"{self.table.path}: no row has an image and a label in the columns {self.images} and {self.labels[0]}"
                )
            what = f"{missing:,} of {len(self.table.rows):,} images of the column {self.images} do not exist, such as "
            others = [name for name in self.table.columns if name != self.images and self._holds_files(name)]
            hint = f"; those of the column {others[0]} do: call it file_name" if others else ""
            raise DataError(f"{self.table.path}: {what}{os.path.join(self.base, first)}: paths start at the table's folder{hint}")
        if alone:
            self.remarks.append(no_group(alone, str(self.group)))
        if added:
            self.remarks.append(f"{plural(added, 'row')} with more labels of an image that another row names: it has all of them")
        return list(seen.values())

    def _holds_files(self, column: str) -> bool:
        """Whether a column names existing files, by its first cell."""
        name = next((row[column] for row in self.table.rows if column in row), None)
        return isinstance(name, str) and os.path.isfile(os.path.join(self.base, name))

    def _labels_of(self, row: Row, number: int) -> tuple[str, ...]:
        """The row's labels: one, or any number for multi-label images."""
        where = f"{self.table.path}: row {number}"
        if self.by_column:
            return tuple(name for name in self.labels if truth(row.get(name), f"{where}, column {name},"))
        value = row.get(self.labels[0])
        if self.read_list is not None:
            return () if value is None else self.read_list(value, where)
        label = label_text(value, where)
        return () if label is None else (label,)

    def by_split(self) -> list[list[_Entry]]:
        """The entries by the column of splits, if there is one."""
        if self.splits is None:
            return [self.entries]
        found: dict[str, list[_Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.split, []).append(entry)
        if len(found) == 1:
            if role_of(split := next(iter(found))) not in (None, "train"):
                self.remarks.append(f"all images are of the split {split!r} in the column {self.splits}: they are split again")
            return [self.entries]
        roles = {name: role_of(name) for name in found}
        unknown = [repr(name) for name, role in roles.items() if role is None]
        if unknown:
            what = f"what is the split {listed(unknown, 6)} in the column {self.splits}?"
            known = "Use names such as train, test and val; if the column does not name splits, rename it"
            raise DataError(f"{self.table.path}: {what} {known}")
        meant = {name: role for name, role in roles.items() if role}
        return [found[name] for name in arrange(meant, f"{self.table.path}, column {self.splits}")]


def _stem(name: str) -> str:
    name = os.path.basename(name.replace("\\", "/"))
    return same_name(os.path.splitext(name)[0] if name.lower().endswith(SUFFIXES) else name)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5.0 and 5 are the same image or group
    return "" if value is None or value != value else str(value).strip()  # NaN is not equal to itself


def _label_columns(table: Table, reading: Reading) -> list[str]:
    """The columns of labels: one, or for multi-label images perhaps one per label; [] if none is likely; an error if one is asked
    for that the table lacks."""
    if reading.several:
        if reading.label is not None:
            return columns_of(reading.label, table.columns, table.path)
        found = table.column((*LIST_COLUMNS, *LABELS))
        return [] if found is None else [found]
    parts = [] if reading.label is None else [name.strip() for name in reading.label.split(",")]
    if reading.label not in table.columns and len(parts) > 1 and set(parts) <= set(table.columns):
        raise TaskError(f"{table.path}: --label {reading.label} names several columns: {MULTILABEL} takes one for each label")
    label = table.column(LABELS, reading.label)
    return [] if label is None else [label]


def _names_images(table: Table, reading: Reading) -> bool:
    asked = reading.label
    if asked is not None and asked not in table.columns and not (reading.several and asked.split(",")[0].strip() in table.columns):
        return False
    labels, image = _label_columns(table, reading), table.column(IMAGES)
    return image is not None and bool(labels) and image not in labels and any(labels[0] in row for row in table.rows)


def _truths(table: Table) -> list[str]:
    return [name for name in table.columns if is_column_of_truths([row.get(name, "") for row in table.rows])]


def _require_columns(table: Table, reading: Reading) -> tuple[str, list[str]]:
    """The columns of images and labels."""
    labels = _label_columns(table, reading)
    image = table.column([name for name in IMAGES if name not in map(without_separators, labels)])
    have = f"the columns are {listed(table.columns, MOST_COLUMNS)}" if table.columns else "it has no columns"
    if image is None:
        if labels and labels[0] == table.column(IMAGES):
            others = listed((name for name in table.columns if name != labels[0]), MOST_COLUMNS)
            raise DataError(f"{table.path}: {labels[0]} is the column of paths: choose another one with --label, such as {others}")
        if any(name.lower().endswith(SUFFIXES) for name in table.columns):
            have += ": the first line must have their names"
        raise DataError(f"{table.path}: no column of images: call the column of their paths file_name; {have}")
    if not labels:
        lists = next((name for name in LIST_COLUMNS if table.column([name])), None)
        truths = _truths(table)
        hint = f" or --label {','.join(truths)}, its columns of 0 and 1" if len(truths) > 1 else ""
        hint = hint if reading.several or not hint else f"; {MULTILABEL} --label {','.join(truths)} takes its columns of 0 and 1"
        if lists and not reading.several:
            hint = f"; {MULTILABEL} --label {table.column([lists])} takes several labels per image"
        kind = TaskError if hint and not reading.several else DataError
        raise kind(f"{table.path}: no column of labels: name it with --label NAME, or call it label{hint}; {have}")
    return image, labels


def _part(root: Path, entries: Sequence[_Entry], numbers: Mapping[str, int], *, grouped: bool, several: bool) -> Part:
    base = root if root.is_dir() else root.parent
    ordered = sorted(entries, key=lambda entry: (sorted(numbers[name] for name in entry.labels), entry.path))
    paths = [entry.path for entry in ordered]
    names = [printable(os.path.relpath(path, base)) for path in paths]
    marks = [file_mark(path) for path in paths]

    def read(positions: Indices) -> Iterator[Load]:
        for i in positions:
            yield Load(Path(paths[i]), names[i])

    groups = tuple(entry.group for entry in ordered) if grouped else None
    if several:
        return Part(names, matrix_of([entry.labels for entry in ordered], numbers), digest(marks), read, groups=groups)
    return Part(names, np.array([numbers[entry.labels[0]] for entry in ordered], np.int64), digest(marks), read, groups=groups)
