"""Parquet files as on the Hugging Face Hub: a column of images (bytes or paths) and one of labels (numbers or names)."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from ...common.files import reading_or_writing, why_not_the_file
from ...common.packages import one_line
from ...common.places import plain_path
from ...errors import DataError, FileError, TaskError
from ..originals import Indices, Load, Part, Source, Taken, digest, file_mark
from ..reading import Reading
from .label_lists import MULTILABEL, label_text, measures_error, require_one_label
from .parquet_names import Place, choose_splits, classes_of_all, groups_of, matched_labels, parquet_place
from .scan import LeftOut, look, mark_of, printable
from .split_names import tells_split

IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "class")
DEEPEST = 3  # CONFIGURATION/SPLIT/*.parquet, or the same in data/
MOST_AT_ONCE = 64_000_000  # bytes of a row group, which is read completely for each image if training caches no pixels
WITHOUT = "remove these rows, or choose another column with --label"


@dataclass(frozen=True)
class Files:
    """The Parquet files of a folder: those with a column of images, those without, and those that cannot be opened."""

    with_images: list[Path]
    without: list[Path]
    broken: list[Path]


def parquet_files(root: Path) -> Files:
    """The Parquet files in a folder and up to three levels of subfolders."""
    found: list[Path] = []
    with reading_or_writing(root):
        folders, seen = [str(root)], {mark_of(str(root))}
        for _ in range(DEEPEST + 1):
            deeper = []
            for entry, kind, _ in (entry for folder in folders for entry in look(folder, contents=False)):
                if kind == "folder" and mark_of(entry.path) not in seen:
                    seen.add(mark_of(entry.path))
                    deeper.append(entry.path)
                elif kind == "other" and entry.name.lower().endswith(".parquet") and not entry.name.startswith("."):
                    found.append(Path(entry.path))
            folders = sorted(deeper)
    files = Files([], [], [])
    for path in sorted(found):
        try:
            (files.with_images if _columns(path).images else files.without).append(path)
        except DataError:
            files.broken.append(path)
    return files


def open_parquet(root: Path, files: Files, reading: Reading) -> Source:
    """Parquet files of one configuration, by split (see `split_names`): train-*.parquet, train/0000.parquet, …

    If train, test and validation all exist, validation becomes the held-out part. A part without labels (none, or all -1) is not
    used. Labels are matched by class names, file by file.

    Raises:
        DataError: there are no training files or no image or label column, labels cannot be matched, or there is more than one
            reading.
    """
    left_out: LeftOut = {}
    return open_splits(str(root), _by_split(root, files, left_out), reading, left_out)


def files_of_parquet(root: Path, files: Files, reading: Reading) -> list[str]:
    """`Source.files` of `open_parquet`; only columns of paths are read.

    Raises:
        DataError: as for `open_parquet`, as far as names and schemas show.
    """
    splits = _by_split(root, files, {})
    columns = {place.path: _columns(place.path) for split in splits for place in split}
    if not reading.several:
        splits = _labelled(splits, {path: _has_labels(column, reading) for path, column in columns.items()}, {})
    used = {place.path: columns[place.path] for split in splits for place in split}
    return _files(splits, _named(_choose(used, "image", None), used))


def _by_split(root: Path, files: Files, left_out: LeftOut) -> list[list[Place]]:
    usable = sorted(files.with_images + files.broken) or files.without
    if root in usable:  # a single file of any name
        splits = [[Place(root, printable(root.name), "", "", "train")]]
    else:
        splits = choose_splits(root, [parquet_place(path, root) for path in usable], left_out)
    chosen = {place.part for split in splits for place in split}
    for path in set(files.without) - set(usable):
        place = parquet_place(path, root)
        if place.part in chosen:  # the neighbors have images: not a file about something else
            raise _no_column(path, "image", _columns(path).all)
        left_out.setdefault("Parquet file without a column of images", []).append(place.name)
    return splits


def open_splits(
    name: str, splits: list[list[Place]], reading: Reading, left_out: LeftOut, known: bytes = b"{}", by_path: bool = True
) -> Source:
    """Parquet files by split, training files first; `left_out` gets unused ones.

    Args:
        name: of the data.
        splits: the files of each.
        reading: which labels.
        left_out: unused files.
        known: the Hugging Face Hub's metadata, for files that have none.
        by_path: whether a column may hold paths of images; not in downloaded data, which could name any file of this machine.

    Raises:
        DataError: as for `open_parquet`.
    """
    columns = {place.path: _columns(place.path, known) for split in splits for place in split}
    if odd := [] if by_path else [image for found in columns.values() for image in found.images if image in found.texts]:
        what = (
            f"the column {printable(odd[0])} holds paths of images, and a data set of the Hub could name any file of this machine"
        )
        raise DataError(f"{name}: {what}: download it, check the paths, and give the folder")
    if reading.several:
        return _of_lists(name, splits, columns, reading, left_out)
    splits = _labelled(splits, {path: _has_labels(column, reading) for path, column in columns.items()}, left_out)
    used = {place.path: columns[place.path] for split in splits for place in split}
    image, label = _choose(used, "image", None), _choose(used, "label", reading.label)
    named = _named(image, used)
    files = _files(splits, named)  # including those that may get labels later
    training = {place.path for place in splits[0]}
    labels, names = {}, {}
    for path in used:
        labels[path], names[path] = _read_labels(path, label[path], lack=path not in training, ask=reading.task is None)
        names[path] = names[path] or used[path].names(label[path])
    splits = _labelled(splits, {path: bool((values >= 0).any()) for path, values in labels.items()}, left_out)
    paths = [[place.path for place in split] for split in splits]
    if texts := {path for split in paths for path in split if label[path] in used[path].texts}:
        names |= classes_of_all(paths, label, labels, names, texts)
    labels |= {path: matched_labels(path, labels[path], names, paths[0][0]) for split in paths for path in split}
    groups, alone = groups_of(paths, reading.group, {path: column.all for path, column in used.items()}, _read)
    parts = _parts(paths, image, labels, named, groups)
    classes = names[paths[0][0]] or tuple(str(i) for i in range(int(parts[0].labels.max(initial=-1)) + 1))
    others = sorted({name for columns in used.values() for name in columns.labels} - set(label.values()))
    chosen = sorted(set(label.values()))
    remarks = [f"labels are those of the column {', '.join(chosen)}, not of {', '.join(others)}"] if others else []
    remarks += [] if len(paths) > 1 else _not_read(used, set(chosen))
    return Source.of(name, classes, parts, left_out, [*remarks, *alone], files)


def _not_read(columns: Mapping[Path, "_Columns"], labels: Set[str]) -> list[str]:
    """Lines on columns that seem to divide the images."""
    texts = {name for found in columns.values() for name in found.texts}
    others = sorted({name for found in columns.values() for name in found.all} - labels)

    def values(name: str) -> Iterator[str]:
        for path in columns if name in texts else ():
            yield from _read(path, [name]).column(0).unique().to_pylist()

    divides = [name for name in others if tells_split(name, values(name))]
    how = "splits of Parquet files are known from the files' names, such as train-0.parquet and test-0.parquet"
    return [f"the column {printable(name)} seems to name splits, but is not used: {how}" for name in divides]


def _of_lists(
    name: str, splits: Sequence[Sequence[Place]], columns: Mapping[Path, "_Columns"], reading: Reading, left_out: LeftOut
) -> Source:
    """As `open_splits`, for images with several labels."""
    from .parquet_lists import label_matrices

    def schema(path: Path) -> Any:
        with _opening(path) as file:
            return file.schema_arrow.with_metadata(columns[path].metadata)

    image = _choose(columns, "image", None)
    labels, classes, remarks = label_matrices({path: schema(path) for path in columns}, _read, reading.label)
    paths = [[place.path for place in split] for split in splits]
    named = _named(image, columns)
    groups, alone = groups_of(paths, reading.group, {path: column.all for path, column in columns.items()}, _read)
    parts = _parts(paths, image, labels, named, groups)
    remarks += [] if len(paths) > 1 else _not_read(columns, set(classes))
    return Source.of(name, map(printable, classes), parts, left_out, [*remarks, *alone], _files(splits, named))


def _parts(
    splits: Sequence[Sequence[Path]],
    image: Mapping[Path, str],
    labels: Mapping[Path, NDArray[Any]],
    named: Mapping[Path, list[Path]],
    groups: Mapping[Path, list[str]] | None,
) -> list[Part]:
    base = os.path.commonpath([path.parent for split in splits for path in split])
    parts = []
    for split in splits:
        once = list(dict.fromkeys(image for path in split for image in named[path]))
        part = _part(split, image, labels, once, base)
        parts.append(replace(part, groups=None if groups is None else tuple(chain(*(groups[path] for path in split)))))
    return parts


def _files(splits: Sequence[Sequence[Place]], named: Mapping[Path, list[Path]]) -> list[str]:
    """All files that are read: the Parquet files, and the images that they name."""
    return [str(path) for split in splits for place in split for path in (place.path, *named[place.path])]


def _named(image: Mapping[Path, str], columns: Mapping[Path, "_Columns"]) -> dict[Path, list[Path]]:
    """The image files that each Parquet file names, if it does not contain the images."""
    found: dict[Path, list[Path]] = {path: [] for path in image}
    for path in image:
        if image[path] in columns[path].texts:
            values = _read(path, [image[path]]).column(0).unique().to_pylist()
            found[path] = [path.parent / value for value in values if value]
    return found


def _part(
    paths: Sequence[Path], image: Mapping[Path, str], labels: Mapping[Path, NDArray[Any]], named: Sequence[Path], base: str
) -> Part:
    """The rows of one split's files, and the image files that these name; names are relative to `base`."""
    marks = [f"{file_mark(path.resolve())}|{image[path]}" for path in paths]
    for path in named:
        with suppress(OSError):  # a missing file is reported when it is read
            marks.append(file_mark(path))
    name_of = {path: printable(os.path.relpath(path, base)) for path in paths}
    names = [f"{name_of[path]}[{row}]" for path in paths for row in range(len(labels[path]))]

    def groups(positions: Indices) -> Iterator[tuple[Any, Path, int, int, Indices]]:
        """Row groups with wanted rows: the open file, its path, the group's number, its first row, and the wanted rows in it."""
        start = 0
        for path in paths:
            with _opening(path) as file:
                first = start
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    wanted = positions[(positions >= start) & (positions < stop)] - start
                    if len(wanted):
                        yield file, path, group, start - first, wanted
                    start = stop

    def read(positions: Indices) -> Iterator[Load]:
        """Read only row groups with wanted rows, a few rows at a time."""
        for file, path, group, first, wanted in groups(positions):
            seen = 0
            for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=[image[path]]):
                column = _encoded(batch.column(0))
                for row in wanted[(wanted >= seen) & (wanted < seen + len(column))].tolist():
                    name = f"{name_of[path]}[{first + row}]"
                    yield Load(_original(column[row - seen].as_py(), name, path.parent), name)
                seen += len(column)

    def single(positions: Indices) -> Iterator[Load]:
        """Images that are read separately, each from its row group."""
        for _, path, group, first, wanted in groups(positions):
            for row in wanted.tolist():
                name = f"{name_of[path]}[{first + row}]"
                yield Load(partial(_cell, path, image[path], group, row, name), name)

    every = np.concatenate([labels[path] for path in paths])
    return Part(names, every, digest(marks), read, single=single, only_in_order=_only_in_order(paths, image))


def _only_in_order(paths: Sequence[Path], image: Mapping[Path, str]) -> str:
    """Why reading single images would take far too long; "" if it would not."""
    for path in paths:
        with _opening(path) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                columns = [group.column(i) for i in range(group.num_columns)]
                size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == image[path])
                if size > MOST_AT_ONCE:
                    what = f"{path} has {group.num_rows:,} images ({size / 1e6:.0f} MB) in a row group"
                    return f"{what}, which is read whole for each of them: write it with row groups of 100 images"
    return ""


@dataclass(frozen=True)
class _Columns:
    """Columns in a file's schema: all, and those that may hold the images or the labels, likeliest first.

    Attributes:
        any_label: all columns that could be labels, of any name, including floating-point ones.
        texts: columns of strings.
        odd: for messages, the types of columns that are named like labels but cannot be labels.
    """

    all: list[str]
    images: list[str]
    labels: list[str]
    any_label: list[str]
    texts: Set[str]
    odd: str
    metadata: Mapping[bytes, bytes]

    def names(self, label: str) -> tuple[str, ...]:
        """Class names in the Hugging Face Hub's metadata of the schema; () if there are none."""
        try:
            features = json.loads(self.metadata[b"huggingface"])["info"]["features"]
            return tuple(str(name) for name in features[label]["names"])
        except (KeyError, TypeError, ValueError):
            return ()


@contextmanager
def _opening(path: Path) -> Iterator[Any]:
    """Open a Parquet file; errors name it."""
    try:
        with plain_path(path) as plain, pq.ParquetFile(plain) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{path}: {error.strerror}: check the path and its permissions") from error
        why = why_not_the_file(path) or f"not a Parquet file, or damaged ({one_line(error)}): download it again"
        raise DataError(f"{path}: {why}") from error


def _read(path: Path, names: list[str]) -> Any:
    with _opening(path) as file:
        return file.read(names)


def _columns(path: Path, known: bytes = b"{}") -> _Columns:
    with _opening(path) as file:
        schema = file.schema_arrow
    images, labels, texts, floating = list[str](), list[str](), set[str](), list[str]()
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            images.append(field.name)
        elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            labels.append(field.name)
        elif pa.types.is_floating(kind):  # as pandas writes whole numbers where some are missing
            floating.append(field.name)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            labels.append(field.name)
            texts.add(field.name)
    named = [name for name in LABEL_COLUMNS if name in labels]
    lists = any(pa.types.is_list(field.type) or pa.types.is_large_list(field.type) for field in schema)
    named.sort(key=lambda name: name in texts)  # numbers before names, which the first versions did not read
    paths = [name for name in IMAGE_COLUMNS if name in texts and (named or lists)]  # of image files, if no column has their content
    return _Columns(
        schema.names,
        [name for name in IMAGE_COLUMNS if name in images] or (images if len(images) == 1 else []) or paths,
        named or [name for name in LABEL_COLUMNS if name in floating],
        labels + floating,
        texts,
        "".join(f"; {f.name} holds {f.type}" for f in schema if f.name in LABEL_COLUMNS and f.name not in labels),
        {b"huggingface": known, **(schema.metadata or {})},
    )


def _has_labels(columns: _Columns, reading: Reading) -> bool:
    return bool(columns.labels) if reading.label is None else reading.label in columns.any_label


def _choose(columns: Mapping[Path, _Columns], what: str, asked: str | None) -> dict[Path, str]:
    """The column of images or labels of each file: the requested one, or preferably one that all files have; an error if none."""
    if asked is not None:
        for path, found in columns.items():
            if asked not in found.any_label:
                what = f"{path}: no column {asked!r} of numbers or names: choose from {', '.join(found.any_label)}"
                raise TaskError(f"{what}; {MULTILABEL} takes lists") if asked in found.all else DataError(what)
        return dict.fromkeys(columns, asked)
    candidates = {path: found.images if what == "image" else found.labels for path, found in columns.items()}
    for path, names in candidates.items():
        if not names:
            raise _no_column(path, what, columns[path].all, columns[path].odd)
    first = next(iter(candidates.values()))
    everywhere = [name for name in first if all(name in names for names in candidates.values())]
    if everywhere:
        return dict.fromkeys(candidates, everywhere[0])
    for path, names in candidates.items():
        if len(names) > 1:
            raise DataError(
                f"{path}: which is the {what} column, {' or '.join(names)}? The other files have other ones: rename one"
            )
    return {path: names[0] for path, names in candidates.items()}


def _no_column(path: Path, what: str, names: Sequence[str], odd: str = "") -> DataError:
    if what == "image":
        kind = f"one of {', '.join(IMAGE_COLUMNS)} with encoded images (bytes, or a struct of bytes and path) or with paths"
    else:
        kind = (
            f"one of {', '.join(LABEL_COLUMNS)} with whole numbers or names, or another with --label NAME; {MULTILABEL} takes lists"
        )
    error = DataError if what == "image" else TaskError
    hint = odd if what == "label" else ""
    return error(f"{path}: no {what} column: expected {kind}; the columns are {', '.join(names)}{hint}")


def _labelled(splits: Sequence[list[Place]], labelled: Mapping[Path, bool], left_out: LeftOut) -> list[list[Place]]:
    """The training split and all splits with labels in any file; the others are noted as left out."""
    kept = list(splits[:1])
    for split in splits[1:]:
        if any(labelled[place.path] for place in split):
            kept.append(split)
        else:
            left_out.setdefault("Parquet file without labels", []).extend(place.name for place in split)
    return kept


def _read_labels(path: Path, name: str, *, lack: bool, ask: bool) -> tuple[Indices, tuple[str, ...]]:
    """A file's labels, and their names if they are texts; all -1 if a file that may `lack` labels has only empty ones.

    With `ask`, texts that are clearly lists are an error, which asks what is meant.
    """
    column = _read(path, [name]).column(0)
    if ask:
        require_one_label(column.to_pylist(), f"{path}: the column {name}")
    if pa.types.is_floating(column.type):
        column = pa.chunked_array([pa.array(column.to_numpy(), from_pandas=True)])  # NaN is empty, too
        example = next((value for value in column.to_pylist() if value is not None and value % 1), None)
        if example is not None:
            raise measures_error(f"{path}: the column {name}", example)
    if column.null_count:
        if lack and column.null_count == len(column):
            return np.full(len(column), -1, np.int64), ()
        raise DataError(f"{path}: {column.null_count} rows of '{name}' are empty: every image needs a label: {WITHOUT}")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = [label_text(text, f"{path}: row {row}") for row, text in enumerate(column.to_pylist())]
        if None in texts:
            raise DataError(f"{path}: {texts.count(None)} rows of '{name}' are empty: every image needs a label: {WITHOUT}")
        names, numbers = np.unique(np.array(texts, object).astype(str), return_inverse=True)
        return numbers.astype(np.int64), tuple(names.tolist())
    return np.asarray(column.to_numpy()).astype(np.int64), ()


def _cell(path: Path, column: str, group: int, row: int, name: str) -> Taken:
    """An image's content, or its path, by its place in a file, for any process."""
    values = _row_group(path, path.stat().st_mtime_ns, column, group)
    original = _original(values[row].as_py(), name, path.parent)
    taken: Taken = original() if callable(original) else original
    return taken


@lru_cache(maxsize=1)  # images of a batch are read in order
def _row_group(path: Path, changed: int, column: str, group: int) -> Any:
    with _opening(path) as file:
        return _encoded(file.read_row_group(group, columns=[column], use_threads=False).column(0).combine_chunks())


def _encoded(column: Any) -> Any:
    return column.field("bytes") if pa.types.is_struct(column.type) else column


def _original(data: bytes | str | None, name: str, folder: Path) -> Any:
    """An image's content, or its path relative to the Parquet file's folder."""
    return partial(_missing, name) if data is None else folder / data if isinstance(data, str) else data


def _missing(name: str) -> Image.Image:
    raise DataError(f"{name}: no image in this row (of embedded images the bytes are read, not the paths beside them): remove it")
