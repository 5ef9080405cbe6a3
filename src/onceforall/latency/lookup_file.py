"""Read YAML files of published latencies: flat mappings from keys to {count, mean, std} in ms.

The files are untrusted, so the parser's events are checked one by one: no object is built from YAML, aliases and tags are
rejected, and the first unexpected event is an error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from ..common.files import read_text, reading_or_writing
from ..errors import FileError

MOST_BYTES = 10_000_000
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
NUMBER = re.compile(r"(?=\.?[0-9])(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")
FIRST_CONV = re.compile(r"Conv-input:([1-9][0-9]{0,4})x\1x3-output:.*")


@dataclass(frozen=True)
class LookupFile:
    """Mean time of each key in ms, at one resolution."""

    path: Path
    resolution: int
    ms: Mapping[str, float]


def read_lookup_files(path: Path) -> list[LookupFile]:
    """Read a file, or all files of a folder: one per resolution, ascending.

    Raises:
        FileError: nothing to read, or a file that is not such a table.
    """
    with reading_or_writing(path):
        paths = sorted(p for p in path.iterdir() if p.suffix in {".yaml", ".yml"}) if path.is_dir() else [path]
    if not paths:
        raise FileError(f"{path}: no .yaml file in this folder: give the folder with a device's tables, or one table")
    files: dict[int, LookupFile] = {}
    for file in map(_read, paths):
        if same := files.get(file.resolution):
            raise FileError(f"{file.path}: for {file.resolution} pixels, like {same.path.name}: keep one of them")
        files[file.resolution] = file
    return [files[resolution] for resolution in sorted(files)]


def _read(path: Path) -> LookupFile:
    text = read_text(path, MOST_BYTES)
    try:
        ms = dict(_entries(path, yaml.parse(text, Loader=LOADER)))
    except (yaml.YAMLError, ValueError) as error:
        raise FileError(f"{path}: not YAML ({_short(error)})") from None
    resolutions = sorted({int(match[1]) for match in map(FIRST_CONV.fullmatch, ms) if match})
    if len(resolutions) != 1:
        got = f"{resolutions[0]} and {resolutions[1]}" if resolutions else "none"
        raise FileError(
            f"{path}: a table needs a first convolution 'Conv-input:RxRx3-output:…' at one resolution R, this one has {got}: "
            "give a table of the original project"
        )
    return LookupFile(path, resolutions[0], ms)


def _entries(path: Path, events: Iterator[Any]) -> Iterator[tuple[str, float]]:
    """Yield key and mean of each entry."""
    wanted = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.MappingStartEvent)
    begin = [event for kind, event in zip(wanted, events, strict=False) if isinstance(event, kind)]
    if len(begin) < 3 or begin[2].tag is not None or begin[2].anchor is not None:
        raise FileError(f"{path}: not a latency table: it must be a mapping from keys to {{count, mean, std}}")
    for key, entry in _pairs(path, events):
        if not isinstance(entry, yaml.MappingStartEvent):
            raise FileError(f"{path}: {_short(key)} must have a mapping with a mean")
        fields = dict(_pairs(path, events, inside=key))
        if "mean" not in fields:
            raise FileError(f"{path}: {_short(key)} has no mean")
        yield key, _milliseconds(path, key, fields["mean"])
    if not isinstance(next(events), yaml.DocumentEndEvent) or not isinstance(next(events), yaml.StreamEndEvent):
        raise FileError(f"{path}: not a latency table: it must be one YAML document")


def _pairs(path: Path, events: Iterator[Any], inside: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a mapping with the first events of their values; values inside an entry must be scalars."""
    seen = set()
    for name in events:
        if isinstance(name, yaml.MappingEndEvent):
            return
        value, key = (next(events), name.value) if isinstance(name, yaml.ScalarEvent) else (name, "a key")
        place = f"{path}: {_short(key if inside is None else inside)}"
        for event in (name, value):
            scalar = isinstance(event, yaml.ScalarEvent)
            if not scalar and (inside is not None or event is name or not isinstance(event, yaml.MappingStartEvent)):
                raise FileError(
                    f"{place}: line {event.start_mark.line + 1}: lists, aliases and further mappings do not belong here"
                )
            if event.tag is not None or event.anchor is not None:
                raise FileError(f"{place}: line {event.start_mark.line + 1}: tags and anchors do not belong here")
        if name.value in seen:
            raise FileError(f"{place}: line {name.start_mark.line + 1}: {_short(name.value)} occurs twice")
        seen.add(name.value)
        yield name.value, value


def _milliseconds(path: Path, key: str, event: Any) -> float:
    """The value of a plain number above 0."""
    if not event.implicit[0] or not NUMBER.fullmatch(event.value) or not (value := float(event.value)) > 0 or not isfinite(value):
        raise FileError(f"{path}: {_short(key)}: the mean is {_short(event.value)}: it must be a number of milliseconds above 0")
    return value


def _short(value: object) -> str:
    """Shorten to one line; quoted if it comes from the file."""
    text = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 160 else f"{text[:157]}…"
