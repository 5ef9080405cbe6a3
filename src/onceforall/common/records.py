"""Frozen dataclasses as JSON: one writer, and one reader whose errors name the file and the wrong field.

Not pydantic: it refuses text that is not valid Unicode, such as some paths, and loading it takes too long for `ofa status`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..arch import Arch
from ..errors import FileError
from .files import read_json, read_lines, write_json

T = TypeVar("T")
NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number", dict: "an object", list: "a list"}


def write_record(path: Path, record: Any, format: str) -> None:
    """Write a dataclass and its format to a JSON file, atomically."""
    write_json(path, {"format": format, **json_of(record)})


def read_record(path: Path, kind: type[T], format: str | None = None, *, otherwise: str = "", strict: bool = False) -> T:
    """Read what `write_record` wrote, see `as_record`; `strict` refuses entries that are not fields."""
    try:
        data = read_json(path)
    except FileError as error:
        if not (otherwise and path.is_file()):
            raise
        raise FileError(f"{error}: {otherwise}") from None
    record = as_record(data, kind, path, format, otherwise=otherwise)
    known = {"format", *(field.name for field in fields(kind))}  # type: ignore[arg-type]
    if strict and (odd := data.keys() - known):
        raise FileError(f"{path}: edited, or written by a newer version of onceforall: {', '.join(sorted(odd))} is not known here")
    return record


def read_records(path: Path, kind: type[T]) -> list[T]:
    """The lines of a JSON-lines file; [] if there is none."""
    return [as_record(line, kind, path) for line in read_lines(path)]


def as_record(data: Any, kind: type[T], path: Path, format: str | None = None, *, otherwise: str = "") -> T:
    """Make a dataclass from JSON values. Entries that are not fields are ignored.

    Fields with a default may be missing, as in older files. If older entries had another meaning, the dataclass has a static method
    `older`, which converts the entries of any file to the current form.

    Args:
        path: of the file, for messages; `otherwise` says what to do if it is damaged.
        format: expected format of the file; None if it has none.

    Raises:
        FileError: the format differs, or a field is missing or has another type; one line.
    """
    more = f": {otherwise}" if otherwise else ""
    try:
        found = _plain(dict, data, "").get("format")
        if format is not None and found is None:
            raise ValueError("format is missing")
        if format not in (None, found):
            raise FileError(f"{path}: written by another version of onceforall ({found!r}, this one reads {format!r}){more}")
        record: T = _make(kind, data, "")
        return record
    except ValueError as error:
        raise FileError(f"{path}: damaged or edited ({error}){more}") from None


def json_of(value: Any) -> Any:
    """Convert dataclasses to JSON values; classes with their own `to_json`, such as architectures, use it."""
    if "from_json" in vars(type(value)):
        return value.to_json()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        return {field.name: json_of(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: json_of(inner) for key, inner in value.items()}
    return [json_of(inner) for inner in value] if isinstance(value, list | tuple) else value


def _value(kind: Any, data: Any, where: str) -> Any:
    """Convert JSON values to a value of this type; a `ValueError` says where the types differ."""
    if type(data) is kind or kind is Any:  # fast path: a file may have a million lines
        return data
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # X | None, or X | Y
        if data is None and NoneType in inner:
            return None
        return data if type(data) in inner else _value(inner[0], data, where)
    if kind is Path:
        return Path(_plain(str, data, where))
    if origin is Literal:
        if data not in inner:
            raise ValueError(f"{where} is {data!r}, and one of {', '.join(map(str, inner))} is expected")
        return data
    if is_dataclass(kind) and (read := vars(kind).get("from_json")):
        return read.__get__(None, kind)(_plain(str if kind is Arch else dict, data, where))
    if is_dataclass(kind):
        return _make(kind, _plain(dict, data, where), where)
    if origin is tuple:
        values = _plain(list, data, where)
        kinds = inner[:1] * len(values) if inner[1:] == (...,) else inner
        if len(kinds) != len(values):
            raise ValueError(f"{where} has {len(values)} values, and {len(kinds)} are expected")
        return tuple(_value(each, value, f"{where}[{i}]") for i, (each, value) in enumerate(zip(kinds, values, strict=True)))
    if origin is dict:
        return {key: _value(inner[1], value, f"{where}.{key}") for key, value in _plain(dict, data, where).items()}
    return float(_plain(float, data, where)) if kind is float else _plain(kind, data, where)


def _plain(kind: type, data: Any, where: str) -> Any:
    allowed = {float: (int, float), list: (list, tuple)}.get(kind, kind)
    if not isinstance(data, allowed) or (isinstance(data, bool) and kind is not bool):
        shown = NAMES.get(type(data), "") if isinstance(data, dict | list) else repr(data)
        raise ValueError(f"{where or 'its content'} is {shown}, and {NAMES[kind]} is expected")
    return data


def _make(kind: Any, data: dict[str, Any], where: str) -> Any:
    found, data = {}, kind.older(data) if "older" in vars(kind) else data
    for name, (hint, needed) in _hints(kind).items():
        at = f"{where}.{name}" if where else name
        if name in data:
            found[name] = _value(hint, data[name], at)
        elif needed:
            raise ValueError(f"{at} is missing")
    return kind(**found)


@lru_cache
def _hints(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each field, and whether it has no default."""
    hints = get_type_hints(kind)
    return {f.name: (hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in fields(kind) if f.init}
