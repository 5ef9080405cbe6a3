"""Scan folders of images: which files are images, by suffix or content, and why others are left out."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ...common.advice import PHOTOS as IMAGES
from ...common.files import reading_or_writing

LeftOut = dict[str, list[str]]  # reason, a phrase in the singular ("file that cannot be opened") -> names of files

# No codec here reads them, or only their small preview (camera files look like TIFF).
CAMERA = (".dng", ".nef", ".nrw", ".arw", ".cr2", ".cr3", ".pef", ".srw", ".orf", ".rw2", ".raf", ".3fr", ".iiq")
PICTURES = (
    *CAMERA, ".heic", ".heif", ".hif", ".jxl", ".psd", ".svg", ".eps", ".ico", ".tga", ".dds", ".exr", ".hdr", ".dcm", ".xcf",
)  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")  # of images, which tables may name without them
# Not opened: they are so common beside images that opening a million of them would take longer than reading the images.
NEVER_IMAGES = (".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".md", ".html", ".yaml", ".yml", ".npy", ".parquet")
SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "__pycache__", "@eadir", "@recycle", "#recycle", "#snapshot", "@tmp", "lost+found", "$recycle.bin", "recycler",
        "system volume information", ".git", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", ".thumbnails", ".thumbs", ".@__thumb",
        ".xvpics", ".picasaoriginals", ".appledouble", ".fseventsd", ".spotlight-v100", ".temporaryitems", ".trashes", ".cache",
        ".venv", ".idea", ".vscode",
    }
)  # fmt: skip
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".localized", "picasa.ini", ".picasa.ini"})

EXPORT_FOLDER = "folder of an exported network of ofa"
OWN = {  # file -> how its content begins, and what kind of folder it is in
    "run.json": (b"onceforall.run/", "folder of a run of ofa"),
    "config.json": (b"onceforall.export/", EXPORT_FOLDER),
    "bundle.json": (b"onceforall.bundle/", EXPORT_FOLDER),
}
UNNAMED = "image that no row names"
DANGLING = "broken link"
LOOP = "link to a folder that was already read"
UNREAD = "file of an unsupported kind"
NO_IMAGE = "file without an image in it"
PLAIN = "without suffix"


class Entry(Protocol):
    """An entry of a folder, on the disk (`os.DirEntry`) or in an archive."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_symlink(self) -> bool: ...
    def stat(self) -> os.stat_result: ...


class Found(NamedTuple):
    """A judged entry of a folder.

    Attributes:
        kind: an image, a folder to look into, or something else.
        reason: why something else is left out.
    """

    entry: Entry
    kind: Literal["image", "folder", "other"]
    reason: str = ""


def look(folder: str, *, contents: bool = True) -> Iterator[Found]:
    """The entries of one folder, unordered; without `contents`, files without an image's suffix are not opened."""
    with reading_or_writing(Path(folder)), os.scandir(folder) as entries:
        for entry in entries:
            yield judge(entry, _head if contents else None)


def walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[Found]:
    """Images and left-out entries anywhere below a folder on the disk.

    Folders in `seen` are skipped, and every folder is added to it; links to folders are followed last.
    """
    folders, links = [folder], list[Found]()  # links last: their targets may be here as real folders
    while folders or links:
        if not folders:
            found = links.pop(0)
            if (mark := mark_of(found.entry.path)) in seen:
                yield Found(found.entry, "other", LOOP)
                continue
            seen.add(mark)
            folders.append(found.entry.path)
        deeper = []
        for found in look(folders.pop()):
            if found.kind == "folder":
                deeper.append(found)
            else:
                yield found
        deeper.sort(key=lambda found: found.entry.name)
        links += [found for found in deeper if found.entry.is_symlink()]
        for found in reversed(deeper):  # the last one is next
            if found.entry.is_symlink():
                continue
            if (mark := mark_of(found.entry.path)) in seen:
                yield Found(found.entry, "other", LOOP)
            else:
                seen.add(mark)
                folders.append(found.entry.path)


def mark_of(folder: str) -> tuple[int, int]:
    """Device and inode: equal for two paths to the same folder."""
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def marks_above(folder: str) -> set[tuple[int, int]]:
    """Marks of a folder and its parents: a link to one of them is a loop."""
    path, marks = os.path.realpath(folder), set()
    while True:
        marks.add(mark_of(path))
        if path == os.path.dirname(path):
            return marks
        path = os.path.dirname(path)


def is_unread_picture(reason: str) -> bool:
    """Whether a file left out for this reason is a picture to people."""
    return reason.startswith(UNREAD)


def left_out_line(left_out: Mapping[str, Sequence[str]]) -> str:
    """What was left out, as text: "10 files of an unsupported kind (.heic): a/h0.heic, …"; "" if nothing was."""
    parts = []
    for reason, names in sorted(left_out.items(), key=lambda item: (not is_unread_picture(item[0]), -len(item[1]), item[0])):
        things = r"\b(file|folder|image|link|pipe|row|sample|shard|table)\b"
        what = reason if len(names) == 1 else re.sub(things, r"\1s", reason, count=1)
        parts.append(f"{len(names):,} {what}: {min(names)}{', …' if len(names) > 1 else ''}")
    return "; ".join(parts)


def printable(name: str) -> str:
    """A file name as one line of valid Unicode."""
    if name.isprintable():  # fast: there may be a million files
        return name
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def shown(name: str) -> str:
    """A name for a message, in quotes if it begins or ends with spaces."""
    return printable(name) if name == name.strip() else f"'{printable(name)}'"


def listed(names: Iterable[str], most: int = 4) -> str:
    """A few names, separated by commas."""
    first = [shown(name) for name in islice(names, most + 1)]
    return ", ".join(first[:most]) + (", …" if len(first) > most else "")


def same_name(name: str) -> str:
    """The name in Unicode's normalization form C: a Mac writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def other_forms(path: str) -> list[str]:
    """A path, and the same in both normalization forms of Unicode, one of which a Mac or a table may have used."""
    return list(dict.fromkeys([path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]))


def judge(entry: Entry, head: Callable[[str], bytes] | None) -> Found:
    """Judge an entry by its name or, if that does not decide and `head` is given, by its first bytes."""
    name = entry.name.lower()
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a loop of links
        return Found(entry, "other", DANGLING)
    if is_folder:
        if name in SYSTEM_FOLDERS or name.startswith(".trash"):
            return Found(entry, "other", "folder of the system or a tool")
        if name.startswith("."):
            return Found(entry, "other", "folder hidden by a dot before the name (rename it if it is a class)")
        reason = _made_here(entry.path) if isinstance(entry, os.DirEntry) else ""
        return Found(entry, "other" if reason else "folder", reason)
    if name in SYSTEM_FILES or name.startswith("._"):  # a Mac writes ._x.jpg beside x.jpg, without a picture in it
        return Found(entry, "other", "file of the system")
    if name.startswith("."):
        return Found(entry, "other", "file hidden by a dot before the name")
    if not is_file and not (entry.is_symlink() and name.endswith(IMAGES)):  # such a link is reported when it is read
        return Found(entry, "other", DANGLING if entry.is_symlink() else "pipe or device instead of a file")
    if name.endswith(IMAGES):
        return Found(entry, "image")
    suffix = os.path.splitext(printable(name))[1]
    if head is not None and suffix not in NEVER_IMAGES:
        return _by_content(entry, suffix, head)
    return Found(entry, "other", f"{NO_IMAGE} ({suffix or PLAIN})")


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(32)


def _by_content(entry: Entry, suffix: str, head: Callable[[str], bytes]) -> Found:
    try:
        kind = _kind(head(entry.path))
    except OSError:
        return Found(entry, "other", "file that cannot be opened")
    if kind not in ("", "HEIF") and not (kind == "TIFF" and suffix in CAMERA):
        return Found(entry, "image")
    return Found(entry, "other", f"{UNREAD if kind or suffix in PICTURES else NO_IMAGE} ({suffix or PLAIN})")


def _kind(head: bytes) -> str:
    """Pillow's name of the format of a file with these first bytes, or ""."""
    for start, kind in (
        (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
        (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"),
    ):  # fmt: skip
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if (
        head[:2] == b"BM"
        and head[6:10] == bytes(4)
        and head[14:18] in (n.to_bytes(4, "little") for n in (12, 40, 52, 56, 64, 108, 124))
    ):
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() and (head[3:4].isdigit() or head[3:4] == b"#"):
        return "PPM"
    if head[4:8] == b"ftyp":
        brands = head[8:]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")) else ""
    return ""


def _made_here(folder: str) -> str:
    """The reason to leave a folder out if onceforall made it, else "": a run or an export beside the classes is not a class."""
    for name, (start, what) in OWN.items():
        with suppress(OSError), open(os.path.join(folder, name), "rb") as file:
            if start in file.read(1 << 20):
                return what
    return ""


def note_unnamed(root: Path, used: Set[str], without: Set[str], left_out: LeftOut) -> None:
    """Note images that no row names, with or `without` a label, in the folders of the named images and in sibling folders."""
    base, named = root if root.is_dir() else root.parent, used | without
    folders = {os.path.dirname(path) for path in used}
    for above in {os.path.dirname(folder) for folder in folders if folder.startswith(f"{base}{os.sep}")}:
        folders |= {found.entry.path for found in look(above, contents=False) if found.kind == "folder"}
    for folder in sorted(folders):
        with reading_or_writing(Path(folder)), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(SUFFIXES) and os.path.normpath(entry.path) not in named:
                    left_out.setdefault(UNNAMED, []).append(printable(os.path.relpath(entry.path, base)))
