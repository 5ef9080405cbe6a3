"""Lists of labels in tables: texts with a separator, lists, or a column of 0 and 1 for each label."""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.readable import plural
from ...errors import DataError, TaskError
from .scan import listed, same_name

SEPARATORS = (";", "|", ",")  # or a space, if none of these occurs
SPACE = " "
NAMES = {";": "a semicolon", "|": "a bar", ",": "a comma", SPACE: "a space"}
LIST_COLUMNS = ("labels", "tags", "categories", "classes", "attributes", "keywords")  # likely names besides those of one label
YES = ("1", "true", "yes", "1.0")
NO = ("", "0", "false", "no", "0.0")
MOSTLY = 0.5  # share of a column's values with a separator from which they count as lists
MULTILABEL = "--task multilabel"
LEAST_EACH = 4  # images per value; with fewer on average, numbers that are not whole are measurements

Row = Mapping[str, Any]


def label_text(value: Any, where: str) -> str | None:
    """A label as a class name: texts unchanged, whole numbers and truth values as text; None if empty.

    Raises:
        DataError: it is anything else.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return same_name(value.strip()) or None
    if isinstance(value, list):
        raise TaskError(f"{where} has several labels: expected one name or whole number; {MULTILABEL} takes lists")
    raise DataError(f"{where} has the label {value!r}: expected one name or whole number; --label NAME selects another column")


def order_of(name: str) -> tuple[bool, int, str]:
    """Sort key for class names that puts numbers, by value, before names."""
    try:
        return False, int(name), name
    except ValueError:
        return True, 0, name


def require_one_label(values: Sequence[Any], where: str) -> None:
    """Check that a column's texts are not clearly lists of labels.

    They are if most contain a separator or are written as lists, or if all parts also occur alone. A comma also occurs in names
    ("tench, Tinca tinca"): with commas, they are lists only if there are fewer different labels than different texts.

    Raises:
        DataError: they are lists.
    """
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    distinct = set(texts)
    for separator in ("", *SEPARATORS):
        several = [text for text in texts if (separator in text if separator else _is_list(text))]
        if not several:
            continue
        parts = {part.strip() for text in distinct if separator and separator in text for part in text.split(separator)} - {""}
        alone = {text.strip() for text in distinct if separator not in text}
        mostly = len(several) > MOSTLY * len(texts) and (separator != "," or len(parts | alone) < len(distinct))
        if mostly or (parts and parts <= alone):
            raise TaskError(
                f"{where} holds lists of labels, such as {several[0]!r}: {MULTILABEL} takes several labels per image, --task "
                "multiclass each such text as a class"
            )


def require_classes(values: Sequence[Any], where: str) -> None:
    """Check that a column's values are not clearly measurements: numbers, not all of them whole, with few images for each.

    Raises:
        DataError: they are.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return
    example = next((number for number in numbers if number % 1 > 0), None)
    if example is not None and len(numbers) < LEAST_EACH * len(set(numbers)):
        raise measures_error(where, example)


def no_group(rows: int, column: str) -> str:
    """A line on rows without a group."""
    return f"{plural(rows, 'row')} without a value in the column {column}: each is a group of its own"


def measures_error(where: str, example: float) -> DataError:
    """The error for a column of measurements."""
    return DataError(
        f"{where} holds measurements such as {example:g}, and there is no regression: divide them into ranges, and name these in a "
        "column, such as low, middle, high"
    )


def reader_of(values: Sequence[Any], where: str) -> tuple[Callable[[Any, str], tuple[str, ...]], str]:
    """A function that reads a column's values as lists of labels, and a line on the separator; "" if they are not texts.

    Args:
        values: of all rows, without missing ones.
        where: the file and its column, for messages.

    Raises:
        DataError: the texts contain several separators, or the lists have a 0 or 1 for each label.
    """
    texts = [value for value in values if isinstance(value, str) and not _is_list(value)]
    found = [separator for separator in SEPARATORS if any(separator in text for text in texts)]
    if len(found) > 1:
        examples = " and ".join(repr(next(text for text in texts if separator in text)) for separator in found[:2])
        raise DataError(
            f"{where}: what separates its labels, {' or '.join(NAMES[char] for char in found)} ({examples})? Use only one"
        )
    example = next((text for text in texts if SPACE in text.strip()), None)
    separator = found[0] if found else SPACE if example else ""

    def parts(value: Any, row: str) -> list[Any]:
        if isinstance(value, str):
            return _list_of(value, row) if _is_list(value) else value.split(separator) if separator else [value]
        return value if isinstance(value, list) else [value]

    def read(value: Any, row: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, (label_text(part, row) for part in parts(value, row)))))

    if most := _truths(values, parts):
        raise DataError(
            f"{where} holds 0 or 1 for each of {most} labels, such as {values[0]!r}: write the names of an image's labels, or a "
            "column for each label (--label cat,dog,…)"
        )
    if not separator:
        return read, ""
    shown = next(text for text in texts if separator in text)
    return read, f"labels are separated by {NAMES[separator]}, as in {shown!r}"


def truth(value: Any, where: str) -> bool:
    """Whether a cell of 0 or 1 is 1; an empty cell counts as 0.

    Raises:
        DataError: it has another value.
    """
    text = _plain(value)
    if text not in YES and text not in NO:
        raise DataError(f"{where} has {value!r}: with a column for each label, 0 and 1 are expected")
    return text in YES


def is_column_of_truths(values: Sequence[Any]) -> bool:
    """Whether all values are 0 or 1, and both occur."""
    texts = {*map(_plain, values)}
    return bool(texts & set(YES)) and texts <= {*YES, *NO} and bool(texts & set(NO))


def columns_of(asked: str, columns: Sequence[str], path: Path) -> list[str]:
    """The columns named by `--label`: one, or several separated by commas.

    Raises:
        DataError: the table lacks one of them.
    """
    if asked in columns:
        return [asked]
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}: choose from {listed(columns, 6)}")
    return names


def matrix_of(labels: Sequence[tuple[str, ...]], numbers: Mapping[str, int]) -> NDArray[np.float32]:
    """(n, classes) float32, 1 where an image has a label."""
    found: NDArray[np.float32] = np.zeros((len(labels), len(numbers)), np.float32)
    for row, names in enumerate(labels):
        found[row, [numbers[name] for name in names]] = 1
    return found


def _plain(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip().lower()


def _truths(values: Sequence[Any], parts: Callable[[Any, str], list[Any]]) -> int:
    """The number of labels if every value has a 0 or 1 for each label, else 0."""
    count = 0
    for value in values:
        with suppress(DataError):  # not a list: reported with its row when that is read
            cells = parts(value, "")
            if len(cells) < 2 or count not in (0, len(cells)) or not {*map(_plain, cells)} <= {*YES, *NO}:
                return 0
            count = len(cells)
    return count


def _is_list(text: str) -> bool:
    ends, inner = text.strip()[:1] + text.strip()[-1:], text.strip()[1:-1]
    return ends == "[]" or (ends in ("()", "{}") and (not inner or inner[0] in "'\"" or "," in inner))


def _list_of(text: str, where: str) -> list[Any]:
    """Parse a list written as text, in JSON, Python or numpy syntax, which has no commas: Python would join its texts."""
    found: Any = None
    try:
        found = json.loads(text)
    except ValueError:
        with suppress(ValueError, SyntaxError, TypeError):
            found = ast.literal_eval(re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text.strip()))
    if not isinstance(found, list | tuple | set) and found != {}:
        raise DataError(f"{where} has {text!r}, which is not a list: write names with one separator between them")
    return list(found)
