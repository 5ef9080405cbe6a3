"""Parquet files with multi-label images: a column of lists or texts, or a column of 0 and 1 for each label."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...common.readable import plural
from ...errors import DataError
from .label_lists import LIST_COLUMNS, columns_of, label_text, matrix_of, order_of, reader_of, truth
from .tables import LABELS

Rows = list[tuple[str, ...]]


def label_matrices(
    schemas: Mapping[Path, Any], read: Callable[[Path, list[str]], Any], asked: str | None
) -> tuple[dict[Path, NDArray[np.float32]], tuple[str, ...], list[str]]:
    """Labels of each file, (n, classes) of 0 and 1; the classes; and lines for the user on how they were read.

    Args:
        schemas: of each file.
        read: returns columns of a file as a pyarrow table.
        asked: the requested column, or several separated by commas; None for the likeliest.

    Raises:
        DataError: there is no such column, or labels cannot be read as lists.
    """
    rows: dict[Path, Rows] = {}
    columns: dict[Path, list[str]] = {path: _columns(path, schema, asked) for path, schema in schemas.items()}
    remarks: dict[str, None] = {}
    for path, names in columns.items():
        table = read(path, names)
        if len(names) > 1:
            cells = [table.column(name).to_pylist() for name in names]
            rows[path] = [
                tuple(name for name, value in zip(names, values, strict=True) if truth(value, f"{path}: row {row}, column {name},"))
                for row, values in enumerate(zip(*cells, strict=True))
            ]
        else:
            rows[path], remark = _lists(path, names[0], table.column(0).to_pylist(), _names(schemas[path], names[0]))
            remarks |= dict.fromkeys([remark] if remark else [])
    if by_column := [names for names in columns.values() if len(names) > 1]:
        classes = tuple(dict.fromkeys(name for names in by_column for name in names))
    else:
        classes = tuple(sorted({name for labels in rows.values() for names in labels for name in names}, key=order_of))
    numbers = {name: number for number, name in enumerate(classes)}
    without = sum(not names for labels in rows.values() for names in labels)
    lines = [*remarks, *([f"{plural(without, 'image')} without any label"] if without else [])]
    return {path: matrix_of(labels, numbers) for path, labels in rows.items()}, classes, lines


def _columns(path: Path, schema: Any, asked: str | None) -> list[str]:
    if asked is not None:
        return columns_of(asked, schema.names, path)
    likely = [name for name in (*LIST_COLUMNS, *LABELS, "label") if name in schema.names]
    lists = [field.name for field in schema if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)]
    for name in (*(name for name in likely if name in lists), *lists, *likely):
        return [name]
    columns = ", ".join(schema.names)
    raise DataError(f"{path}: no column of labels: name one, or one for each label, with --label; the columns are {columns}")


def _lists(path: Path, column: str, values: Sequence[Any], names: tuple[str, ...]) -> tuple[Rows, str]:
    """The labels of each row; if the file has class names, numbers are replaced by them."""
    read, remark = reader_of([value for value in values if value is not None], f"{path}: the column {column}")
    found = []
    for row, value in enumerate(values):
        where = f"{path}: row {row} of {column}"
        if names and isinstance(value, list):
            odd = [number for number in value if not isinstance(number, int) or not 0 <= number < len(names)]
            if odd:
                raise DataError(f"{where} has {odd[0]!r}, out of range: there are {len(names)} names, numbered from 0")
            value = [names[number] for number in value]
        found.append(() if value is None else read(value, where))
    return found, remark


def _names(schema: Any, column: str) -> tuple[str, ...]:
    """Class names in the Hugging Face Hub's metadata of a column of lists; () if there are none."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        return tuple(label_text(str(name), column) or "" for name in feature["names"])
    except (KeyError, TypeError, ValueError, IndexError):
        return ()
