"""Folders of Parquet files as the Hugging Face hub lays them out: an image column, a label column."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ..errors import DataError, FileError
from ..files import reading_or_writing
from ..places import plain_path
from .decode import decode
from .sources import Indices, Load, Part, Source, digest

__all__ = ["open_parquet", "parquet_files"]

IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "class")
SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def parquet_files(root: Path) -> dict[str, list[Path]]:
    """The Parquet files in a folder, its data/ folder or the first of its folders that has any, by split; {} if there are none."""
    with reading_or_writing(root):
        folders = [root, root / "data", *sorted(path for path in root.iterdir() if path.is_dir())]
        found = next((files for folder in folders if (files := sorted(folder.glob("*.parquet")))), [])
    splits: dict[str, list[Path]] = {}
    for path in found:
        word = path.stem.lower().split("-")[0].split("_")[0].split(".")[0]
        splits.setdefault(SPLITS.get(word, "train" if len(found) == 1 else word), []).append(path)
    return splits


def open_parquet(root: Path) -> Source:
    """A folder of train-*.parquet with test-*.parquet or validation-*.parquet beside, or in a data/ folder.

    With all three there, validation becomes the held-out part; a test part without labels (all -1) is left aside.

    Raises:
        DataError: no training file, no image or label column, labels out of range.
    """
    splits = parquet_files(root)
    if "train" not in splits:
        found = ", ".join(sorted(splits))
        raise DataError(f"{root}: no train-*.parquet among its Parquet files (found: {found}): rename the training files to that")
    tables = {split: _Table(split, splits[split]) for split in ("train", "test", "validation") if split in splits}
    train, *others = [table for table in tables.values() if table.split == "train" or (table.labels >= 0).any()]
    classes = train.classes or tuple(str(i) for i in range(int(train.labels.max(initial=-1)) + 1))
    for other in others:
        if other.classes != train.classes:
            raise DataError(
                f"{root}: the {other.split} files name {len(other.classes)} classes, not the same {len(train.classes)} as the "
                "training files: both need the same names in the same order"
            )
    parts = [table.part() for table in others]
    return Source(
        str(root),
        classes,
        train.part(),
        test=parts[0] if parts else None,
        held_out=parts[1] if len(parts) > 1 else None,
    )


class _Table:
    """The rows of one split's files."""

    def __init__(self, split: str, paths: list[Path]) -> None:
        self.split = split
        self.paths = paths
        self.rows: list[int] = []
        labels = []
        for path in paths:
            with _opening(path) as file:
                schema = file.schema_arrow
                self.image = _image_column(schema, path)
                self.label = _label_column(schema, path)
                self.classes = _class_names(schema, self.label)
                column = file.read([self.label]).column(0)
                if column.null_count:
                    raise DataError(f"{path}: {column.null_count} rows of '{self.label}' are empty: every image needs a label")
                labels.append(column.to_numpy().astype(np.int64))
                self.rows.append(file.metadata.num_rows)
        self.labels = np.concatenate(labels)

    def part(self) -> Part:
        marks = []
        for path in self.paths:
            stat = path.stat()
            marks.append(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{self.image}")
        names = [f"{path.name}[{row}]" for path, rows in zip(self.paths, self.rows, strict=True) for row in range(rows)]
        return Part(names, self.labels, digest(marks), self.read)

    def read(self, positions: Indices) -> Iterator[Load]:
        """Reads only row groups with wanted rows, a few rows at a time."""
        start = 0
        for path in self.paths:
            with _opening(path) as file:
                first = start
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    wanted = positions[(positions >= start) & (positions < stop)] - start
                    if len(wanted):
                        yield from self._read_group(file, group, wanted, f"{path.name}[{{}}]", start - first)
                    start = stop

    def _read_group(self, file: Any, group: int, wanted: Indices, name: str, offset: int) -> Iterator[Load]:
        seen = 0
        for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=[self.image]):
            column = batch.column(0)
            if pa.types.is_struct(column.type):
                column = column.field("bytes")
            here = wanted[(wanted >= seen) & (wanted < seen + len(column))]
            for row in here:
                yield partial(_load, column[int(row) - seen].as_py(), name.format(offset + row))
            seen += len(column)


@contextmanager
def _opening(path: Path) -> Iterator[Any]:
    """A Parquet file; whatever goes wrong in it is an error that names it."""
    try:
        with plain_path(path) as plain, pq.ParquetFile(plain) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{path}: {error.strerror}: check the path and its permissions") from error
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a Parquet file, or damaged ({reason}): fetch it again") from error


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _image_column(schema: pa.Schema, path: Path) -> str:
    usable = []
    for field in schema:
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        if _is_bytes(field.type.field("bytes").type if struct else field.type):
            usable.append(field.name)
    for name in IMAGE_COLUMNS:
        if name in usable:
            return name
    raise DataError(
        f"{path}: no image column: expected one of {', '.join(IMAGE_COLUMNS)} with encoded images (bytes, or a struct of bytes and "
        f"path); the columns are {', '.join(schema.names)}"
    )


def _label_column(schema: pa.Schema, path: Path) -> str:
    for name in LABEL_COLUMNS:
        if name in schema.names and pa.types.is_integer(schema.field(name).type):
            return name
    raise DataError(
        f"{path}: no label column: expected one of {', '.join(LABEL_COLUMNS)} with integers; columns: {', '.join(schema.names)}"
    )


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """The names that the Hugging Face hub keeps in the schema's metadata; () if there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _load(data: bytes | None, name: str, at_least: int) -> Image.Image:
    if data is None:
        raise DataError(f"{name}: no image in this row")
    return decode(data, name, at_least=at_least)
