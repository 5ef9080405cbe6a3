"""Find the split and configuration of a Parquet file from its name and folders, and merge the class names of several files."""

import os
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..originals import Indices
from .label_lists import no_group, order_of
from .scan import LeftOut, printable, same_name
from .split_names import Role, arrange, mentions_role, role_of

SHARD = re.compile(r"-(\d+)-of-(\d+)(-[0-9a-f]{16})?$")


@dataclass(frozen=True)
class Place:
    """The split and configuration of a Parquet file.

    Attributes:
        name: its path inside the data's folder.
        configuration: the folders that do not name a split, "" if there are none.
        word: the name of its split: train, or partial-train, or train_small.
        role: the meaning of that name, if known.
    """

    path: Path
    name: str
    configuration: str
    word: str
    role: Role | None

    @property
    def part(self) -> tuple[str, str]:
        return self.configuration, self.word


def parquet_place(path: Path, root: Path) -> Place:
    """Parse paths such as train-00000-of-00002.parquet, SPLIT/0000.parquet or CONFIGURATION/SPLIT/0000.parquet.

    Raises:
        DataError: the names of the file and its folder mean different splits.
    """
    inside = path.relative_to(root)
    folders = list(inside.parts[:-1])
    word = re.sub(r"[\W_\d]+$", "", SHARD.sub("", path.stem.lower()))
    role = mentions_role(word)
    if role is None and folders and (role := mentions_role(folders[-1])):
        word = folders.pop()
    for folder in [folder for folder in folders if role_of(folder)]:
        if role not in (None, role_of(folder)):
            raise DataError(
                f"{path}: are these the {role} or the {role_of(folder)} images? Its name and its folder differ: rename one"
            )
        role, word = role_of(folder), word if role else folder
        folders.remove(folder)
    return Place(path, printable(str(inside)), "/".join(folders), word, role)


def choose_splits(root: Path, places: Sequence[Place], left_out: LeftOut) -> list[list[Place]]:
    """The files of the training, test and held-out images, if any; unused files are added to `left_out`.

    Raises:
        DataError: there are no training files, or there is more than one reading.
    """
    known = [place for place in places if place.role]
    if not known and len({place.part for place in places}) == 1:
        return [_shards(places, left_out)]
    configurations = sorted({place.configuration for place in known})
    if len(configurations) > 1:
        names = ", ".join(name or "the files beside these folders" for name in map(printable, configurations[:6]))
        example = root / next(filter(None, configurations))
        raise DataError(
            f"{root}: which of {len(configurations)} sets of Parquet files, {names}{', …' if len(configurations) > 6 else ''}? "
            f"Give its folder, for example {example}"
        )
    if all(place.role != "train" for place in known):
        found = ", ".join(sorted({place.word or place.name for place in places}))
        raise DataError(f"{root}: no train-*.parquet among its Parquet files (found: {found}): give the training files such names")
    for place in places:
        if place.role is None:
            left_out.setdefault("Parquet file without a split's name", []).append(place.name)
    chosen = arrange({place.word: place.role for place in known if place.role}, str(root / configurations[0]))
    return [_shards([place for place in known if place.word == word], left_out) for word in chosen]


def _shards(places: Sequence[Place], left_out: LeftOut) -> list[Place]:
    """The files of one split, checked to belong together."""
    counted = {place.path: SHARD.search(place.path.stem.lower()) for place in places}
    totals: dict[tuple[Path, str | None], Place] = {}
    for place in places:
        found = counted[place.path]
        totals.setdefault((place.path.parent, found[2] if found else None), place)
    if len({total for _, total in totals}) > 1:
        names = " and ".join(place.name for place in list(totals.values())[:2])
        raise DataError(f"{places[0].path.parent}: {names} are not shards of one set: move one set away")
    for folder, total in totals:
        there = {int(found[1]) for path, found in counted.items() if found and path.parent == folder}
        for index in range(int(total)) if total else ():
            if index not in there:
                found = SHARD.search(totals[folder, total].path.stem)
                assert found is not None
                start = totals[folder, total].name.removesuffix(totals[folder, total].path.suffix)[: found.start() - found.end()]
                left_out.setdefault("shard missing from a numbered set", []).append(
                    f"{start}-{index:0{len(found[1])}}-of-{found[2]}{os.extsep}parquet"
                )
    return list(places)


def classes_of_all(
    splits: Sequence[Sequence[Path]],
    label: Mapping[Path, str],
    labels: dict[Path, Indices],
    names: Mapping[Path, tuple[str, ...]],
    texts: Set[Path],
) -> dict[Path, tuple[str, ...]]:
    """Class names of all files in one order; files in `texts` have names in place of numbers. `labels` are renumbered accordingly.

    Raises:
        DataError: a file has numbers without names.
    """
    most = max((len(names[path]) for split in splits for path in split if path not in texts), default=0)
    for split in splits:
        for path in split:  # digits as text are numbers, not names, if other files have numbered class names
            if not names[path] or (path in texts and all(name.isdecimal() and int(name) < most for name in names[path])):
                raise DataError(
                    f"{path}: '{label[path]}' has numbers without names, but names in other files: write names everywhere"
                )
    classes = tuple(sorted({same_name(name) for split in splits for path in split for name in names[path]}, key=order_of))
    numbers = {name: number for number, name in enumerate(classes)}
    for split in splits:
        for path in split:
            labels[path] = np.array([numbers[same_name(name)] for name in names[path]], np.int64)[labels[path]]
    return {path: classes for split in splits for path in split}


def groups_of(
    splits: Sequence[Sequence[Path]],
    asked: str | None,
    columns: Mapping[Path, Sequence[str]],
    read: Callable[[Path, list[str]], Any],
) -> tuple[dict[Path, list[str]] | None, list[str]]:
    """The group of each row of each file, and remarks; None if `asked` is not a column.

    Raises:
        DataError: only some of the files have the column.
    """
    paths = [path for split in splits for path in split]
    lacking = [path for path in paths if asked not in columns[path]]
    if asked is None or len(lacking) == len(paths):
        return None, []
    if lacking:
        raise DataError(f"{lacking[0]}: no column {asked!r}, which other files have: all need it")
    found, alone = dict[Path, list[str]](), 0
    base = os.path.commonpath([path.parent for path in paths])  # groups are in order by name, and data may move
    for path in paths:
        name, values = os.path.relpath(path, base), read(path, [asked]).column(0).to_pylist()
        empty = [value is None or value == "" or value != value for value in values]  # NaN is not equal to itself
        found[path] = [f"{name}[{row}]" if empty[row] else _group(value) for row, value in enumerate(values)]
        alone += sum(empty)
    return found, [no_group(alone, asked)] if alone else []


def _group(value: Any) -> str:
    """A group's name: 5.0 is 5, since whole numbers become floating-point ones in files where some are missing."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def matched_labels(path: Path, labels: Indices, names: Mapping[Path, tuple[str, ...]], first: Path) -> Indices:
    """A file's labels in the numbering of the first file's classes.

    Raises:
        DataError: the files name different classes, only one of them names any, or a label is out of range.
    """
    own, wanted = ([same_name(name) for name in names[p]] for p in (path, first))
    if own == wanted:
        return labels
    if not own or not wanted:
        with_names, without = (path, first) if own else (first, path)
        raise DataError(
            f"{with_names} names its classes and {without} does not, so their labels cannot be matched: write the names in both"
        )
    odd = sorted(set(own) ^ set(wanted))
    if odd or len(set(wanted)) < len(wanted) or len(own) != len(wanted):
        raise DataError(
            f"{path} names {len(own)} classes, which differ from the {len(wanted)} of {first}"
            + (f"; only in one of them: {', '.join(map(printable, odd[:5]))}{', …' if len(odd) > 5 else ''}" if odd else "")
            + ": both need the same names"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(own)))
    if len(wrong):
        raise DataError(
            f"{path}: the label of row {wrong[0]} is {labels[wrong[0]]}, out of range: with {len(own)} classes labels go from 0 to "
            f"{len(own) - 1}"
        )
    return np.array([wanted.index(name) for name in own], np.int64)[labels]
