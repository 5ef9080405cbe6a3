"""Folders of images, one folder per class."""

import os
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ...common.files import reading_or_writing
from ...errors import DataError
from ..labels import Labels
from ..originals import Indices, Load, Original, Part, Source, digest
from .linked import HEAD, hash_of_head, same_files
from .scan import (
    DANGLING,
    LOOP,
    Entry,
    Found,
    LeftOut,
    is_unread_picture,
    left_out_line,
    listed,
    look,
    mark_of,
    marks_above,
    printable,
    shown,
    walk,
)
from .scan import same_name as key
from .split_names import Role, arrange, is_plain, mentions_role, role_of, without_role

EXPECTED = "expected one folder per class with images in it, or train/ and val/ with such folders"
OUTSIDE = "image outside the class folders"


class Tree(Protocol):
    """Folders on the disk, or in an archive."""

    def look(self, folder: str) -> Iterator[Found]:
        """The entries of one folder."""

    def walk(self, folder: str) -> Iterator[Found]:
        """Everything below a folder, except folders; see `scan.walk`."""

    def is_divided(self, folder: str) -> bool:
        """Whether the folder has subfolders; fast."""

    def leads_back(self, folder: str) -> bool:
        """Whether the folder is a link to one of its parents."""

    def head(self, path: str) -> Hashable:
        """A cheap key that differs for most files of the same size."""

    def read(self, paths: Iterable[str]) -> Iterator[Original]:
        """Files in a form that can be decoded, one after the other."""


class _Disk:
    """The folders on the disk below `root`."""

    def __init__(self, root: Path) -> None:
        with reading_or_writing(root):
            self.above = frozenset(marks_above(str(root)))  # a link to one of them is a loop

    def look(self, folder: str) -> Iterator[Found]:
        with reading_or_writing(Path(folder)):
            yield from look(folder)

    def walk(self, folder: str) -> Iterator[Found]:
        if not self.leads_back(folder):
            with reading_or_writing(Path(folder)):
                yield from walk(folder, {*self.above, mark_of(folder)})

    def is_divided(self, folder: str) -> bool:
        """Whether the folder has subfolders; much faster than `look` if there are many images."""
        with reading_or_writing(Path(folder)), os.scandir(folder) as entries:
            return any(
                os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False) for entry in entries
            )

    def leads_back(self, folder: str) -> bool:
        with reading_or_writing(Path(folder)):
            return mark_of(folder) in self.above

    def head(self, path: str) -> Hashable:
        """A hash of the file's beginning; its path if it cannot be read."""
        try:
            with open(path, "rb") as file:
                return hash_of_head(file.read(HEAD))
        except OSError:
            return path

    def read(self, paths: Iterable[str]) -> Iterator[Original]:
        return map(Path, paths)


@dataclass(frozen=True)
class _Folder:
    """A folder, whose entries are read when needed."""

    path: str
    tree: Tree = field(repr=False)

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @cached_property
    def entries(self) -> list[Found]:
        return sorted(self.tree.look(self.path), key=lambda found: found.entry.name)

    @cached_property
    def all_folders(self) -> list["_Folder"]:
        return [_Folder(found.entry.path, self.tree) for found in self.entries if found.kind == "folder"]

    @cached_property
    def folders(self) -> list["_Folder"]:
        """The subfolders that have an image at any depth."""
        return [folder for folder in self.all_folders if folder.holds_images]

    @cached_property
    def holds_images(self) -> bool:
        return any(found.kind == "image" for found in self.walk())

    @cached_property
    def is_divided(self) -> bool:
        return self.tree.is_divided(self.path)

    @cached_property
    def leads_back(self) -> bool:
        return self.tree.leads_back(self.path)

    def walk(self) -> Iterator[Found]:
        """Everything below the folder; see `scan.walk`."""
        return self.tree.walk(self.path)


def open_folder(
    root: Path, tree: Tree | None = None, *, few: bool = False, known: Collection[str] = (), several: bool = False
) -> Source:
    """A folder of class folders, or of train/ and test/ or val/ with class folders (see `split_names`).

    If train, val and test all exist, val becomes the held-out part. Without a `tree` the folders are on the disk.
    With `few`, splits other than train may lack classes. A single folder that holds only folders of images is not a class but
    wraps the classes, unless its name is `known` as a class. With `several`, an image that is linked or copied into several class
    folders has all of their labels.

    Raises:
        DataError: there are no class folders, train and another split differ in classes, or there is more than one reading.
    """
    alone = frozenset(map(key, known))
    chain = _chain(_Folder(str(root), tree or _Disk(root)), alone, unwrap=True)
    top = chain[-1]
    if not top.folders:
        raise DataError(_nothing(root, top))
    divided = _divide(root, top)
    flat = divided == [top]
    classes: dict[str, str] = {}  # by `key`: folders whose names differ only in Unicode normalization are one class
    unwrap = not _have_one_class(divided, alone)
    chains = [[top] if flat else _chain(divided[0], alone, unwrap=unwrap)]
    for folder in chains[0][-1].folders:
        classes.setdefault(key(folder.name), folder.name)
    chains += [_chain(folder, frozenset(classes), unwrap=unwrap) for folder in divided[1:]]
    ends = [part[-1] for part in chains]
    for end in ends[1:]:
        _require_same(classes, ends[0], end, few)
    left_out: LeftOut = {}
    files: list[str] = []
    parts = [_part(root, end, list(classes), left_out, files, several) for end in ends]
    opened = {folder.path: folder for part in (chain, *chains) for folder in part}
    used = {*opened, *(folder.path for end in ends for folder in end.folders)}
    for folder in opened.values():
        _note_unused(root, folder, used, left_out, of_classes=folder in ends)
    return Source.of(
        str(root),
        map(printable, classes.values()),
        parts,
        left_out,
        (*_remarks(root, [chain, *chains], top if flat else None), *(_on_several(parts, files) if several else ())),
        files,
        _hint(ends[0], flat) if len(classes) == 1 else "",
    )


def _have_one_class(splits: Sequence[_Folder], alone: Set[str]) -> bool:
    """Whether two splits have a single folder of the same name, which is then a class and does not wrap the classes."""
    ends = [_chain(folder, alone)[-1].folders for folder in splits]
    names = [key(inner[0].name) for inner in ends if len(inner) == 1]
    return len(set(names)) < len(names)


def _hint(top: _Folder, flat: bool) -> str:
    """Advice for a single class whose subfolders may be the classes."""
    inner = top.folders[0].folders
    if len(inner) < 2:
        return ""
    classes = f"if the folders in it are the classes ({listed(folder.name for folder in inner)})"
    if not flat:
        return f"{classes}, move them up one level in each split"
    where = top.folders[0].path if isinstance(top.tree, _Disk) else f"an archive without {top.folders[0].name} above them"
    return f"{classes}, give {where}"


def holds_image_folders(root: Path) -> bool:
    """Whether a folder seems to consist of class folders, or of splits with class folders."""
    folders = _chain(_Folder(str(root), _Disk(root)))[-1].folders
    return len(folders) > 1 or any(folder.folders for folder in folders)


def holds_class_folders(root: Path) -> bool:
    """Whether a folder can be read as class folders, or as splits with class folders, and not only as loose images."""
    folders = _chain(_Folder(str(root), _Disk(root)))[-1].folders
    named = len(folders) > 1 and not all(is_plain(folder.name) and not folder.name.isdigit() for folder in folders)
    return named or any(folder.folders for folder in folders)  # the latter looks at all their files


def _chain(folder: _Folder, classes: Set[str] = frozenset(), *, unwrap: bool = False) -> list[_Folder]:
    """The folder, and the folders inside that only wrap the data: photos/photos/train/…, train/images/CLASS/…

    `unwrap`: also a single folder of any name that would be the only class, such as flowers/ with rose/ and tulip/.
    """
    chain = [folder]
    while len(chain[-1].folders) == 1:
        outer, inner = chain[-1], chain[-1].folders[0]
        again = inner.name.lower() == outer.name.lower()
        says_nothing = is_plain(inner.name) and role_of(inner.name) in (None, role_of(outer.name))
        with_splits = any(role_of(folder.name) == "train" for folder in inner.folders)
        wraps = unwrap and len(inner.folders) > 1 and mentions_role(inner.name) is None
        wraps = wraps and not any(folder.is_divided for folder in inner.folders)
        loose = any(found.kind == "image" for found in (*outer.entries, *inner.entries))
        if loose or not inner.folders or key(inner.name) in classes or not (again or says_nothing or with_splits or wraps):
            break
        chain.append(inner)
    return chain


def _divide(root: Path, top: _Folder) -> list[_Folder]:
    """The folders of the training, test and held-out images; only `top` if it has the class folders.

    A name that says more than a split, such as seg_train or bullet_train, counts as a split if all folders have such names, or if
    the training folder and another have the same class folders and no folder without such a name has them.
    """
    named = {folder.name: role for folder in top.folders if (role := mentions_role(folder.name))}
    others = [folder.name for folder in top.folders if folder.name not in named]
    holders = {folder.name: named[folder.name] for folder in top.folders if folder.name in named and folder.folders}
    plain = {name: role for name in named if (role := role_of(name))}
    trains = [name for name, role in holders.items() if role == "train"]
    by_name = {folder.name: folder for folder in top.folders}
    inner = {name: _inner_names(folder) for name, folder in by_name.items()} if trains else {}
    alike = {name for name, names in inner.items() if len(names) > 1 and names == inner[trains[0]]}
    by_classes = len(alike) > 1 and alike <= set(holders)
    if any(name in plain for name in trains) or (len(trains) == 1 and (by_classes or not others)):
        if others and len(trains) == len(holders):
            raise DataError(
                f"{root}: is {trains[0]} a class beside {listed(others)}, or does it hold all the training images? Give "
                f"{os.path.join(top.path, trains[0])} for these, or rename the class"
            )
        return [by_name[name] for name in arrange(holders, top.path)]
    if len(plain) == len(top.folders):
        what = f"there are no training images beside {listed(holders)}" if holders else f"no class folders in {listed(plain)}"
        raise DataError(f"{root}: {what}: {EXPECTED}")
    doubtful = [name for name, role in plain.items() if role != "train"]
    if doubtful and (len(top.folders) - len(doubtful) > 1 or any(name in holders for name in doubtful)):
        raise DataError(
            f"{root}: is {doubtful[0]} a class, or are these the {plain[doubtful[0]]} images? If a class, rename it (class "
            f"{doubtful[0]}); if not, put the class folders into train/, or move it away"
        )
    _require_classes(root, top, named)
    return [top]


def _require_classes(root: Path, top: _Folder, named: Mapping[str, Role]) -> None:
    """Check that the folders can only be classes; `named` are those whose names contain a split's word."""
    inner = {folder.name: _chain(folder)[-1].folders for folder in top.folders if folder.is_divided}
    divided = {name: [deeper for deeper in folders if role_of(deeper.name)] for name, folders in inner.items()}
    divided = {name: folders for name, folders in divided.items() if folders}
    if len(divided) > 1 or any(len(folders) > 1 or folders[0].folders for folders in divided.values()):
        raise DataError(
            f"{root}: {listed(divided)} with {listed(sorted({deeper.name for folders in divided.values() for deeper in folders}))} "
            f"in it: are these classes, or sets of images? If sets, give one of them, such as "
            f"{os.path.join(top.path, next(iter(divided)))}; if classes, put train/ and test/ above their folders"
        )
    siblings = {key(folder.name) for folder in top.folders}
    for name, folders in inner.items():
        alike = [deeper.name for deeper in folders if key(deeper.name) in siblings]
        if len(alike) > 1:
            raise DataError(
                f"{root}: is {name} a class, or does it hold more images of {listed(alike)}? If a class, rename the folders in it; "
                "if not, move it away"
            )
    first_of: dict[tuple[str, ...], str] = {}
    for name, role in named.items():
        other = first_of.setdefault(without_role(name), name)
        if named[other] != role:
            raise DataError(
                f"{root}: are {other} and {name} classes, or splits? If splits, put class folders into train/ and "
                "test/; if classes, rename them"
            )


def _inner_names(folder: _Folder) -> set[str]:
    return {key(inner.name) for inner in _chain(folder)[-1].folders}


def _nothing(root: Path, top: _Folder) -> str:
    left_out: LeftOut = {}
    for found in top.walk():
        _add(left_out, root, found.entry.path, found.reason or OUTSIDE)
    what = "no images in its folders" if top.all_folders else "no class folders in it"
    return f"{root}: {what}: {EXPECTED}" + (f"; left out: {left_out_line(left_out)}" if left_out else "")


def _require_same(classes: Mapping[str, str], train: _Folder, other: _Folder, few: bool) -> None:
    there = {key(folder.name) for folder in other.all_folders}  # a class without images is reported by name later
    here = {key(folder.name): folder.name for folder in other.folders}
    missing = [name for same, name in classes.items() if same not in there and not few]
    odd = sorted([*missing, *(here[same] for same in here if same not in classes)])
    if odd:
        empty = {folder.name for folder in train.all_folders} - set(classes.values())
        names = [shown(name) + (f" (without images in {train.name})" if name in empty else "") for name in odd[:5]]
        raise DataError(
            f"{train.path} has {len(classes)} classes and {other.path} has {len(here)}; only in one of them: "
            f"{', '.join(names)}{', …' if len(odd) > 5 else ''}: both need the same class folders"
            + (f" (--few allows {other.name} to lack some)" if odd == sorted(missing) else "")
        )


def _on_several(parts: Iterable[Part], files: Sized) -> Iterator[str]:
    """A line on multi-label class folders: how many images are in several."""
    images = sum(map(len, parts))
    if images == len(files):
        yield "no image is in several class folders: each has one label (--task multiclass learns one class per image)"
    else:
        yield f"{len(files):,} files in class folders are {images:,} images: an image in several folders has all of their labels"


def _part(root: Path, folder: _Folder, classes: list[str], left_out: LeftOut, files: list[str], several: bool) -> Part:
    """The images of a folder's class folders, which are added to `files`; `classes` are keys."""
    paths: list[str] = []
    labels: list[int] = []
    marks: list[str] = []
    sizes: list[int] = []
    label_of = {name: label for label, name in enumerate(classes)}
    for inner in sorted(folder.folders, key=lambda inner: label_of[key(inner.name)]):
        images = []
        for found in inner.walk():
            if found.kind == "image":
                images.append((found.entry.path, *_stat(found.entry)))
            else:
                _add(left_out, root, found.entry.path, found.reason)
        images.sort()
        paths += [path for path, _, _ in images]
        labels += [label_of[key(inner.name)]] * len(images)
        marks += [f"{path}|{size}|{changed}" for path, size, changed in images]
        sizes += [size for _, size, _ in images] if several else []
    files += paths
    matrix: Labels = np.array(labels, np.int64)
    if several:
        same = same_files(paths, sizes, folder.tree.head, folder.tree.read)
        matrix = np.zeros((len(same), len(classes)), np.float32)
        for row, group in zip(matrix, same, strict=True):
            row[[labels[i] for i in group]] = 1
        paths = [paths[group[0]] for group in same]
        marks.append("several labels")
    names = [_name(path, root) for path in paths]

    def read(positions: Indices) -> Iterator[Load]:
        for i, original in zip(positions, folder.tree.read(paths[i] for i in positions), strict=True):
            yield Load(original, names[i])

    return Part(names, matrix, digest(marks), read)


def _note_unused(root: Path, folder: _Folder, used: Set[str], left_out: LeftOut, *, of_classes: bool) -> None:
    """Note the unused files of a folder; an error if one was clearly meant as a class."""
    for found in folder.entries:
        path = found.entry.path
        if found.kind == "image":
            _add(left_out, root, path, OUTSIDE)
        elif found.kind == "other":
            if found.reason == DANGLING and (of_classes or role_of(found.entry.name)):
                raise DataError(f"{path}: a broken link: restore its target, or remove it")
            _add(left_out, root, path, found.reason)
        elif path not in used:
            inner = _Folder(path, folder.tree)
            unread: LeftOut = {}
            for deeper in inner.walk():
                if is_unread_picture(deeper.reason):
                    _add(unread, root, deeper.entry.path, deeper.reason)
            if unread and not inner.holds_images and (of_classes or role_of(inner.name)):
                raise DataError(
                    f"{path}: no image that can be read, but {left_out_line(unread)}: save them as JPEG or PNG, or move it away"
                )
            if inner.holds_images:
                reason = "folder without a split's name, or without class folders"
            else:
                reason = LOOP if inner.leads_back else "folder without images"
            _add(left_out, root, path, reason)


def _remarks(root: Path, chains: Sequence[list[_Folder]], flat: _Folder | None) -> tuple[str, ...]:
    """Lines on guesses; `chains` lead to the folders with data, `flat` is the folder of the classes if there are no splits."""
    remarks = []
    wrapped = [folder for chain in chains for folder in chain[1:]]
    if wrapped:
        remarks.append(f"read from {listed([os.path.relpath(folder.path, root) for folder in wrapped])}: nothing else is beside it")
    several = next((one for chain in chains[1:] for one in chain[-1].folders if one.is_divided and len(one.folders) > 1), None)
    for end in [chain[-1] for chain in chains if len(chain) > len(_chain(chain[0]))]:  # which could be the class
        where, inside = os.path.relpath(end.path, root), listed(folder.name for folder in end.folders)
        remarks.append(f"classes are the folders in {where} ({inside}); if {shown(end.name)} is the class, add a second class")
    if flat is not None:
        doubtful = [folder.name for folder in flat.folders if role_of(folder.name)]
        if doubtful:
            remarks.append(f"used as a class: {listed(doubtful)}, because there are no class folders in it")
        inner = _inner_names(flat.folders[0])
        if len(inner) > 1 and len(flat.folders) > 1 and all(_inner_names(folder) == inner for folder in flat.folders[1:]):
            names = listed(folder.name for folder in flat.folders)
            remarks.append(f"used as classes: {names}, though each holds the same folders ({listed(sorted(inner))})")
            several = None
    if several:
        where = f"{listed(sorted(folder.name for folder in several.folders))} in {several.name}"
        remarks.append(f"all folders in a class folder belong to that class, such as {where}: if they are classes, move them up")
    return tuple(remarks)


def _add(left_out: LeftOut, root: Path, path: str, reason: str) -> None:
    left_out.setdefault(reason, []).append(_name(path, root))


def _name(path: str, root: Path) -> str:
    return printable(path.removeprefix(str(root)).lstrip(os.sep))  # os.path.relpath would double the time to read a folder


def _stat(entry: Entry) -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError:  # gone since: reported by name when it is read
        return -1, 0
    return stat.st_size, stat.st_mtime_ns
