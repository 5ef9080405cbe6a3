"""Images in zip and tar archives, read in place: class folders as on the disk, and shards in WebDataset's format."""

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...common.files import reading_or_writing, why_not_the_file
from ...errors import DataError
from ..originals import Indices, Load, Original, Part, Source, digest, file_mark
from ..reading import Reading
from .folders import open_folder
from .label_lists import label_text, order_of
from .linked import HEAD, hash_of_head
from .parquet_names import Place, choose_splits, parquet_place
from .scan import Found, LeftOut, judge, printable, same_name
from .table_files import TABLES

ARCHIVES = (".zip", ".tar")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".rar", ".7z", ".gz")
LABEL = ".cls"  # WebDataset's suffix for a class
MOST_LINKS = 40  # in a chain, as in operating systems
MOST_NAME = 4096  # bytes of a link's target
MOST_BYTES = 1 << 28  # per image file
NO_TABLES = "tables in an archive ({}) are not read: unpack it to use them; in shards, KEY.cls beside KEY.jpg is its class"
ONE_BY_ONE = "it holds archives ({}): give one of them, or shards (.tar) with KEY.cls beside KEY.jpg"


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive.

    Args:
        path: the archive's path followed by the member's.
        folder: whether it is a folder.
        size: in bytes.
        changed: modification time in a tar archive, CRC-32 in a zip archive.
        offset: of its bytes in a tar archive, of its header in a zip archive.
        packed: compressed size in a zip archive; None in a tar archive.
    """

    path: str
    folder: bool
    size: int = 0
    changed: int = 0
    offset: int = 0
    packed: int | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def is_dir(self) -> bool:
        return self.folder

    def is_file(self) -> bool:
        return not self.folder

    def is_symlink(self) -> bool:
        """Always False: links in archives are left out."""
        return False

    def stat(self) -> os.stat_result:
        """Size and modification time."""
        mode = stat.S_IFDIR if self.folder else stat.S_IFREG
        return os.stat_result((mode, 0, 0, 1, 0, 0, self.size, 0, self.changed, 0), {"st_mtime_ns": self.changed})


class _Archive:
    """The members of a zip or tar archive: a `folders.Tree` whose root is the archive's path.

    With `follow`, links to other members are followed; else they are left out.

    Raises:
        DataError: there is no such archive, it is damaged, or its members cannot be read in place.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self.path = path
        self.members: dict[str, Member] = {}
        self.inside: dict[str, list[Member]] = {str(path): []}
        self.left_out: LeftOut = {}
        links: dict[str, str] = {}
        with _opening(path):
            for member in _zipped(path, links) if _is_zip(path) else _tarred(path, links):
                if member.path != str(path):
                    self._enter(member)
        targets = {place: self._target(links[place], links) if follow else None for place in links}
        for place, target in targets.items():
            if target is not None:
                self._enter(replace(target, path=place))
            else:
                self.left_out.setdefault("link in an archive (not followed)", []).append(printable(place.removeprefix(f"{path}/")))

    def _target(self, place: str, links: Mapping[str, str]) -> Member | None:
        """The file that a link leads to, perhaps through other links; None if there is none."""
        for _ in range(MOST_LINKS):
            if place not in links:
                break
            place = links[place]
        found = self.members.get(place)
        return None if found is None or found.folder else found

    def _enter(self, member: Member) -> None:
        """Add a member and its parent folders, which archives need not list."""
        above = member.path.rpartition("/")[0]
        if above not in self.inside:
            self._enter(Member(above, True))
        if member.folder:
            self.inside.setdefault(member.path, [])
        if member.path not in self.members:
            self.inside[above].append(member)
        elif not member.folder:  # the last one counts, as in unpacking
            self.left_out.setdefault("file stored twice in an archive (the last one is used)", []).append(
                printable(member.path.removeprefix(f"{self.path}/"))
            )
            self.inside[above] = [member if other.path == member.path else other for other in self.inside[above]]
        self.members[member.path] = member

    def look(self, folder: str) -> Iterator[Found]:
        for member in self.inside[folder]:
            yield judge(member, self._head)

    def walk(self, folder: str) -> Iterator[Found]:
        for found in self.look(folder):
            if found.kind == "folder":
                yield from self.walk(found.entry.path)
            else:
                yield found

    def is_divided(self, folder: str) -> bool:
        return any(member.folder for member in self.inside[folder])

    def leads_back(self, folder: str) -> bool:
        """Always False: there are no links."""
        return False

    def head(self, path: str) -> Hashable:
        """The CRC-32 in a zip archive; a hash of the file's beginning in a tar archive."""
        member = self.members[path]
        return hash_of_head(self._head(path, min(member.size, HEAD))) if member.packed is None else member.changed

    def read(self, paths: Iterable[str]) -> Iterator[Original]:
        """Functions that read the files, and report damage, when they are decoded."""
        for path in paths:
            yield partial(_packed, self.path, self.members[path])

    def contents(self, members: Iterable[Member]) -> Iterator[bytes | None]:
        """The contents of many small files; None if damaged."""
        with _opening(self.path), open(self.path, "rb") as file:
            for member in members:
                try:
                    yield _whole(file, member)
                except DataError:
                    yield None

    def _head(self, path: str, size: int = 32) -> bytes:
        """The first bytes; b"" if damaged."""
        try:
            with open(self.path, "rb") as file:
                return _content(file, replace(self.members[path], size=size), whole=False)
        except (OSError, zlib.error, struct.error, ValueError):
            return b""


def open_archive(path: Path, reading: Reading, known: Collection[str] = ()) -> Source:
    """Class folders in an archive, perhaps divided into splits, or samples in WebDataset's format.

    Raises:
        DataError: see `folders.open_folder` and `open_shards`; or the archive cannot be read in place.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise DataError(f"{path}: cannot be read in place: unpack it (tar -xf), or make it a zip or uncompressed tar archive")
    archive = _Archive(path, follow=reading.several)
    if any(member.name.endswith(LABEL) for member in archive.members.values()):
        return open_shards(path, [path])
    with _hint((member.name for member in archive.members.values()), TABLES, NO_TABLES):
        found = replace(open_folder(path, archive, few=reading.few, known=known, several=reading.several), files=(str(path),))
    return replace(found, left_out={**found.left_out, **archive.left_out})


def shard_files(root: Path) -> list[Path]:
    """Tar archives of samples in WebDataset's format, in a folder or in the folders of its splits."""
    with reading_or_writing(root):
        found = sorted(path for pattern in ("*.tar", "*/*.tar") for path in root.glob(pattern) if path.is_file())
    if not found:
        return []
    with _opening(found[0]):
        return found if any(member.name.endswith(LABEL) for member in _tarred(found[0], {})) else []


def hint_at_archives(root: Path) -> AbstractContextManager[None]:
    """Append to errors about a folder that it holds archives, which are read one at a time."""
    return _hint((path.name for path in root.iterdir()), (*ARCHIVES, *COMPRESSED), ONE_BY_ONE)


def open_shards(root: Path, files: Sequence[Path]) -> Source:
    """Shards in WebDataset's format, by split: each sample is KEY.jpg (or another image) and KEY.cls, a number or a name.

    Raises:
        DataError: there are no training shards or no samples with labels, or the data can be read in more than one way.
    """
    left_out: LeftOut = {}
    splits = _shards_by_split(root, files, left_out)
    samples = [[sample for place in split for sample in _samples(_Archive(place.path), left_out)] for split in splits]
    names = sorted({label for split in samples for _, label, _ in split}, key=order_of)
    if not samples[0]:
        raise DataError(f"{root}: no samples with an image and a class: a sample is KEY.jpg and KEY{LABEL} in the same shard")
    numbers = {name: number for number, name in enumerate(names)}
    parts = [_shards_part(root, split, numbers) for split in samples]
    return Source.of(str(root), map(printable, names), parts, left_out, files=(place.path for split in splits for place in split))


def files_of_shards(root: Path, files: Sequence[Path]) -> list[str]:
    """`Source.files` of `open_shards`; no shard is opened."""
    return [str(place.path) for split in _shards_by_split(root, files, {}) for place in split]


def _shards_by_split(root: Path, files: Sequence[Path], left_out: LeftOut) -> list[list[Place]]:
    places = [parquet_place(path, root if root.is_dir() else root.parent) for path in files]
    return choose_splits(root, places, left_out) if root.is_dir() else [places]


def _samples(archive: _Archive, left_out: LeftOut) -> Iterator[tuple[Member, str, Path]]:
    """Images with their labels and the archive's path, in the archive's order; an error if a sample has several classes."""
    images, labels = dict[str, Member](), dict[str, Member]()
    for reason, names in archive.left_out.items():
        left_out.setdefault(reason, []).extend(names)
    for member in archive.members.values():
        if not member.folder and (member.name.endswith(LABEL) or judge(member, None).kind == "image"):
            key = member.path[: len(member.path) - len(member.name)] + member.name.partition(".")[0]
            found = labels if member.name.endswith(LABEL) else images
            first, more = sorted((found.get(key, member), member), key=lambda member: member.name.count("."))
            found[key] = first
            if first is not more:
                left_out.setdefault("file of a second image or class of a sample of a shard", []).append(printable(more.path))
            if first is not more and found is labels and first.name.count(".") == more.name.count("."):
                what = f"{first.name} and {more.name} belong to one sample, because a sample's key ends at the first dot"
                raise DataError(f"{archive.path}: {what}: rename one")
    for key in labels:
        if key not in images:
            left_out.setdefault("sample of a shard without an image", []).append(printable(key))
    texts = dict(zip(labels, archive.contents(labels.values()), strict=True))
    for key, member in images.items():
        text = texts.get(key)
        label = None if text is None else label_text(text.decode("utf-8", "replace"), member.path)
        if label is None:
            left_out.setdefault("sample of a shard without a class (.cls)", []).append(printable(member.path))
        else:
            yield member, label, archive.path


def _shards_part(root: Path, samples: Sequence[tuple[Member, str, Path]], numbers: Mapping[str, int]) -> Part:
    base = str(root if root.is_dir() else root.parent)
    names = [printable(member.path.removeprefix(base).lstrip(os.sep)) for member, _, _ in samples]
    marks = [file_mark(path.resolve()) for path in dict.fromkeys(path for _, _, path in samples)]

    def read(positions: Indices) -> Iterator[Load]:
        for i in positions.tolist():
            member, _, path = samples[i]
            yield Load(partial(_packed, path, member), names[i])

    return Part(names, np.array([numbers[label] for _, label, _ in samples], np.int64), digest([*marks, *names]), read)


def _place(path: Path, name: str) -> str:
    return "/".join([str(path), *(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))])


def _linked(place: str, target: str) -> str:
    """The target of a symbolic link in an archive; "" if it is outside."""
    return os.path.normpath(f"{place.rpartition('/')[0]}/{same_name(target)}") if not target.startswith("/") else ""


def _zipped(path: Path, links: dict[str, str]) -> Iterator[Member]:
    """Files and folders of a zip archive; `links` gets the targets of links."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{path}: {printable(info.filename)} is encrypted: give an archive without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{path}: {printable(info.filename)} is compressed by another method than deflate: use deflate")
            name = _place(path, same_name(info.filename))
            if stat.S_ISLNK(info.external_attr >> 16):
                links[name] = _linked(name, archive.read(info).decode("utf-8", "replace") if info.file_size < MOST_NAME else "")
                continue
            yield Member(name, info.is_dir(), info.file_size, info.CRC, info.header_offset, info.compress_size)


def _tarred(path: Path, links: dict[str, str]) -> Iterator[Member]:
    """As `_zipped`, for a tar archive."""
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if info.isfile() or info.isdir():
                yield Member(_place(path, same_name(info.name)), info.isdir(), info.size, int(info.mtime), info.offset_data)
            else:
                place = _place(path, same_name(info.name))
                hard = _place(path, same_name(info.linkname))  # counts from the archive's root
                links[place] = hard if info.islnk() else _linked(place, info.linkname)


def _content(file: BinaryIO, member: Member, *, whole: bool = True) -> bytes:
    """A member's bytes; unless `whole`, only the first ones. A `ValueError` if it is too large, truncated or corrupt."""
    if member.size > MOST_BYTES or (whole and (member.packed or 0) > MOST_BYTES):
        raise ValueError(f"a file of more than {MOST_BYTES >> 20} MiB")
    file.seek(member.offset)
    if member.packed is None:
        data = file.read(member.size)
    else:
        mark, _, method, _, name, extra = struct.unpack("<4sIH16sHH", file.read(30)[:30])
        if mark != b"PK\x03\x04":
            raise ValueError("a header is missing")
        file.seek(name + extra, os.SEEK_CUR)
        data = file.read(member.packed if whole else min(member.packed, 512))
        if method != zipfile.ZIP_STORED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1 if whole else member.size)
        if whole and zlib.crc32(data) != member.changed:
            raise ValueError("its checksum is wrong")
    if whole and len(data) != member.size:
        raise ValueError("it ends too early")
    return data[: member.size]


def _packed(archive: Path, member: Member) -> bytes:
    """A file of an archive, for any thread or process; a `DataError` if damaged."""
    with open(archive, "rb", buffering=0) as file:
        return _whole(file, member)


def _whole(file: BinaryIO, member: Member) -> bytes:
    try:
        return _content(file, member)
    except (zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{member.path}: damaged in the archive ({error})") from None


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


@contextmanager
def _hint(names: Iterable[str], suffixes: tuple[str, ...], text: str) -> Iterator[None]:
    """Append the text to errors raised inside, if there are files with these suffixes."""
    try:
        yield
    except DataError as error:
        found = sorted(name for name in names if name.lower().endswith(suffixes))
        if not found:
            raise
        more = f"{found[0]}{', …' if len(found) > 1 else ''}"
        raise type(error)(f"{error}; {text.format(printable(more))}") from None


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Turn errors in an archive into errors that name it."""
    try:
        with reading_or_writing(path):
            yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        why = why_not_the_file(path) or f"not a zip or tar archive, or damaged ({error}): download it again"
        raise DataError(f"{path}: {why}") from error
