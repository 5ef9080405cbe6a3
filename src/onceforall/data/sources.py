"""Open the data that a user names, as lists of labeled images that are not decoded yet."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..common.advice import did_you_mean, found_instead
from ..common.files import reading_or_writing
from ..common.places import expanded
from ..common.readable import plural
from ..errors import DataError, TaskError
from .classes import chosen_classes
from .formats.archives import ARCHIVES, COMPRESSED, files_of_shards, hint_at_archives, open_archive, open_shards, shard_files
from .formats.embedded import files_of_torchvision, open_digits, open_torchvision
from .formats.folders import holds_class_folders, holds_image_folders, open_folder
from .formats.scan import LeftOut
from .formats.table_files import TABLES, read_table
from .formats.tables import open_tables, table_beside, tables_in
from .originals import Part, Source
from .reading import AS_IT_IS, HUB, Reading


def open_source(
    source: str, reading: Reading = AS_IT_IS, on_note: Callable[[str], None] = lambda text: None, known: Collection[str] = ()
) -> Source:
    """Find the labeled images that `source` names. Nothing is decoded yet.

    Args:
        source: a folder with one folder per class, or with such folders in train/ and val/ (or other names in `split_names`);
            a folder with Parquet files as laid out on the Hugging Face Hub, or one such file; a table of images and labels (CSV,
            TSV, JSON lines, COCO's JSON), or a folder with a table per split, or with metadata.csv or metadata.jsonl beside its
            images; a zip or tar archive of class folders; shards in WebDataset's format, or a folder with them; `hf:NAME`,
            `hf:NAME@REVISION` or `hf:NAME:CONFIGURATION` (see `formats.hub_data`); `torchvision:NAME:ROOT`, already in ROOT; or
            `digits`, the 1,797 handwritten digits that come with scikit-learn.
        reading: which labels and classes to use.
        on_note: called with a line when files are downloaded.
        known: names of classes; a single folder with such a name is that class, whatever is in it.

    Raises:
        DataError: nothing usable is there, or it can be read in more than one way; the message says what was expected.
    """
    return _opened(_opener(source, reading, on_note, known), reading)


def _opened(opener: "_Opener", reading: Reading) -> Source:
    """The images with the classes and groups of `reading`."""
    found = opener.open()
    if reading.several and found.train.labels.ndim == 1:
        raise TaskError(
            f"{found.name}: its images have one class each: --task multilabel takes tables (a column of lists, or one of 0 and 1 "
            "for each label), annotations in COCO's format, Parquet files with lists, and class folders with an image in several"
        )
    if reading.classes is not None:
        found = chosen_classes(found, reading.classes)
    if reading.group is not None and found.train.groups is None:
        found = _grouped(found, reading.group)
    if reading.label is not None and not opener.by_column:
        remark = f"--label {reading.label} is not used: it names a column, and these labels are not in columns"
        found = replace(found, remarks=(*found.remarks, remark))
    return found


def require_place(source: str, reading: Reading) -> None:
    """Check cheaply that there are data: nothing is downloaded, and only class folders and tables are read.

    Raises:
        DataError: there is nothing, or a run or exported network; or see `open_source`.
    """
    if not source.startswith(HUB):
        opener = _opener(source, reading, lambda text: None, ())
        if opener.files is None:  # class folders and tables
            _opened(opener, reading)


def _require_there(source: str, path: Path) -> bool:
    """Check that the path exists and may hold data; return whether it is a folder."""
    with reading_or_writing(path):
        there, is_folder = path.exists(), path.is_dir()
    if not source.strip() or not there:
        what = f"no such {'file' if path.suffix else 'folder'}: {did_you_mean(path) or 'check the path'}"
        raise DataError(f"{source or 'an empty path'}: {what} (or use 'digits', 'hf:NAME', or 'torchvision:NAME:ROOT')")
    if is_folder and (what := found_instead(path)) and not holds_image_folders(path):
        raise DataError(f"{path}: {what}, which holds no images: give the folder of the images (--from takes a run's weights)")
    return is_folder


def files_of(source: str, reading: Reading) -> Sequence[str]:
    """The files of the data as in `Source.files`, found without reading labels, except those in tables.

    Raises:
        DataError: as for `open_source`, as far as the paths of files show.
    """
    opener = _opener(source, reading, lambda text: None, ())
    if opener.files is not None:
        return opener.files()
    found = opener.open()
    return (found if reading.classes is None else chosen_classes(found, reading.classes)).files


@dataclass(frozen=True)
class _Opener:
    """How to open data with all their classes, and how to list their files; None where opening is just as fast.

    `by_column`: whether labels are in columns.
    """

    open: Callable[[], Source]
    files: Callable[[], Sequence[str]] | None = None
    by_column: bool = False


def _opener(source: str, reading: Reading, on_note: Callable[[str], None], known: Collection[str]) -> _Opener:
    """The only way to read `source`; an error if there is none or more than one."""
    from .formats.parquet import Files, files_of_parquet, open_parquet, parquet_files  # pyarrow takes a while to load

    if source == "digits":
        return _Opener(open_digits, tuple)
    if source.startswith("torchvision:"):
        return _Opener(partial(open_torchvision, source), partial(files_of_torchvision, source))
    if source.startswith(HUB):
        from .formats.hub_data import open_hub_data

        return _Opener(partial(open_hub_data, source, reading, on_note=on_note), tuple, by_column=True)
    path = expanded(source)
    is_folder = _require_there(source, path)
    name = path.name.lower()
    if not is_folder:
        if name.endswith(TABLES):
            return _Opener(lambda: open_tables(path, [read_table(path, several=reading.several)], reading, {}), by_column=True)
        if name.endswith((*ARCHIVES, *COMPRESSED)):
            return _Opener(partial(open_archive, path, reading, known), lambda: (str(path),))
        if name.endswith(".parquet"):
            alone = (path, Files([path], [], []), reading)
            return _Opener(partial(open_parquet, *alone), partial(files_of_parquet, *alone), by_column=True)
        raise DataError(
            f"{source}: files of this kind hold no labeled images: give the folder of the images, a table of them "
            f"({', '.join(TABLES)}), an archive ({', '.join(ARCHIVES)}) or a Parquet file"
        )
    files = parquet_files(path)
    if not (files.with_images or files.without or files.broken):
        return _opener_of_folder(path, reading, known)
    if not holds_image_folders(path):
        return _Opener(partial(open_parquet, path, files, reading), partial(files_of_parquet, path, files, reading), by_column=True)
    if files.with_images:
        raise DataError(
            f"{path}: are its folders of images the data, or its Parquet files with images ({files.with_images[0]}, …)? Give a "
            "folder that holds only one of the two, or move the other away"
        )
    return _opener_of_folder(path, reading, known)


def _opener_of_folder(path: Path, reading: Reading, known: Collection[str]) -> _Opener:
    """Class folders, or if there are none, tables or shards."""
    if holds_class_folders(path):
        if reading.label:
            raise DataError(
                f"{path}: its folders are the classes, and --label names a column: give the table itself, or leave out --label"
            )
        return _of_classes(path, reading, known)
    left_out: LeftOut = {}
    if tables := tables_in(path, reading, left_out):
        return _Opener(lambda: open_tables(path, tables, reading, {**left_out}), by_column=True)
    if reading.label:
        raise DataError(f"{path}: no table of images with a column {reading.label!r}: give the table, or leave out --label")
    shards = shard_files(path)
    if shards:
        return _Opener(partial(open_shards, path, shards), partial(files_of_shards, path, shards))
    return _of_classes(path, reading, known)


def _of_classes(path: Path, reading: Reading, known: Collection[str]) -> _Opener:
    """Class folders. Listing their files skips the slow search for files with the same image."""

    def opened(several: bool) -> Source:
        with hint_at_archives(path):
            found = open_folder(path, few=reading.few, known=known, several=several)
        parts = [part for part in (found.train, found.test, found.held_out) if part is not None]
        beside = table_beside(path, [name for part in parts for name in part.names], len(found.classes))
        remark = f"labels are the names of the folders, not those in {beside}: to use these, give that file"
        return replace(found, remarks=(*found.remarks, *([remark] if beside else [])))

    return _Opener(partial(opened, reading.several), (lambda: opened(False).files) if reading.several else None)


def _grouped(source: Source, pattern: str) -> Source:
    """The source with groups that a regular expression finds in the images' names; an error if it does not match all of them."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--group {pattern}: neither a column nor a regular expression ({error}): correct it") from None

    def grouped(part: Part | None) -> Part | None:
        if part is None:
            return None
        matches = [expression.search(name) for name in part.names]
        odd = [name for name, match in zip(part.names, matches, strict=True) if match is None]
        if odd:
            raise DataError(
                f"{source.name}: --group {pattern} is not a column, and does not match {len(odd):,} of {len(part):,} names, such "
                f"as {odd[0]}: give a column of a table, or a regular expression for all names, such as '(patient\\d+)'"
            )
        return replace(part, groups=tuple(match[expression.groups and 1] or "" for match in matches if match))

    parts = [grouped(part) for part in (source.train, source.test, source.held_out)]
    train, test, held_out = parts
    assert train is not None
    empty = sum(not group for part in parts if part is not None for group in part.groups or ())
    remark = f"--group {pattern} finds an empty group in {plural(empty, 'name')}: these form one group"
    remarks = (*source.remarks, *([remark] if empty else []))
    return replace(source, train=train, test=test, held_out=held_out, remarks=remarks)
