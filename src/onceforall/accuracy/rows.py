"""Measured sub-networks on disk: a folder of Parquet files, one per flush, each written atomically.

Columns: arch (JSON), genes (of the space), resolution, top1, loss, images, seconds, and in newer files the other fields of
`AccuracyRow`. The metadata of every file holds the hash of the supernet's weights, so that measurements of different weights
never mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..arch import Arch
from ..common.files import make_folder, reading_or_writing, replace_file
from ..common.places import plain_path
from ..errors import DataError, FileError
from ..space import Space

LATER = ("top1_half", "score", "soft", "soft_half", "top1_rest", "soft_rest")  # columns that older files lack
NUMBERS = ("top1", "loss", "images", "seconds", *LATER)


@cache
def _schema(texts: bool = False) -> Any:
    """The columns; `texts`: resolutions are strings, as some are not square."""
    import pyarrow as pa  # here and below, as it takes 0.1 s

    numbers = {name: pa.int64() if name == "images" else pa.float64() for name in NUMBERS}
    return pa.schema(
        {"arch": pa.string(), "genes": pa.list_(pa.int16()), "resolution": pa.string() if texts else pa.int32(), **numbers}
    )


@dataclass(frozen=True)
class AccuracyRow:
    """One sub-network, measured or (if marked so) interpolated between measured ones.

    Args:
        top1: top-1 accuracy, in [0, 1].
        loss: mean cross-entropy in nats.
        images: number of images. For scores other than top-1, the number that would give top-1 with the same precision.
        seconds: time spent, including its share of joint computation.
        top1_half: score on every second image of each class, to estimate the noise; None if unknown.
        score: the run's metric (balanced accuracy, macro F1 or mAP); None if that is top-1.
        soft: mean probability of the right class (for other scores than top-1, the mean over classes), to steady the score
            (`onceforall.accuracy.steadying`); None for mAP, and in older files.
        soft_half: `soft` on the images of `top1_half`.
        top1_rest: score on the other images; None in older files, where it follows from `top1_half` if the score is top-1.
        soft_rest: `soft` on the other images.
        interpolated: whether it is interpolated (`onceforall.accuracy.interpolate`); such rows are never written.
    """

    arch: Arch
    top1: float
    loss: float
    images: int
    seconds: float
    top1_half: float | None = None
    score: float | None = None
    soft: float | None = None
    soft_half: float | None = None
    top1_rest: float | None = None
    soft_rest: float | None = None
    interpolated: bool = False

    @property
    def value(self) -> float:
        """The value that predictors learn and searches maximize: the run's metric, top-1 by default."""
        return self.top1 if self.score is None else self.score


def append_rows(folder: Path, space: Space, rows: Sequence[AccuracyRow], *, weights_hash: str, writer: int = 0) -> None:
    """Add rows as a new file in the folder, which is created if missing.

    Processes that write at the same time need different `writer` numbers, so that they do not overwrite each other's files.

    Raises:
        DataError: interpolated rows.
        FileError: the file cannot be written; existing rows are unaffected.
    """
    if not rows:
        return
    if any(row.interpolated for row in rows):
        raise DataError(f"{folder}: interpolated rows cannot be written: write measured ones, and interpolate after reading")
    import pyarrow as pa

    make_folder(folder)
    archs = [row.arch for row in rows]
    texts = _texts(space)
    columns = {
        "arch": [arch.to_json() for arch in archs],
        "genes": space.genes(archs).tolist(),
        "resolution": [str(arch.resolution) if texts else arch.resolution for arch in archs],
        **{name: [getattr(row, name) for row in rows] for name in NUMBERS},
    }
    table = pa.table(columns, schema=_schema(texts).with_metadata({"weights_hash": weights_hash}))
    numbers = [int(path.stem.split("-")[1]) for path in _parts(folder)]
    suffix = f"-{writer}" if writer else ""
    path = folder / f"part-{max(numbers, default=-1) + 1:05d}{suffix}.parquet"
    replace_file(path, lambda temporary: _write(table, temporary))


def read_rows(folder: Path | str, space: Space, *, weights_hash: str | None = None) -> list[AccuracyRow]:
    """Read every measured sub-network once, in the order of measurement; [] if there is no folder.

    Args:
        folder: folder written by `append_rows`.
        weights_hash: hash of the supernet; None accepts any.

    Raises:
        FileError: a file that cannot be read or is not such a table.
        DataError: rows measured with other weights.
        ArchError: a row of another space.
    """
    rows: dict[Arch, AccuracyRow] = {}
    if not (parts := _parts(Path(folder))):
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = _texts(space)
    needed = pa.schema([field for field in _schema(texts) if field.name not in LATER])
    for path in parts:
        with reading_or_writing(path):
            try:
                with plain_path(path) as plain:
                    table = pq.ParquetFile(plain).read()  # `read_table` would load pyarrow.dataset: 0.2 s
            except pa.ArrowInvalid as error:
                raise FileError(f"{path}: not a Parquet file, or damaged: delete it and measure again ({error})") from None
        kept = [field for field in table.schema if field.name in needed.names]
        if set(table.column_names) - set(_schema().names) or not pa.schema(kept).equals(needed):
            raise FileError(f"{path}: not a table of measured sub-networks: its columns are {', '.join(table.column_names)}")
        made_for = (table.schema.metadata or {}).get(b"weights_hash", b"").decode()
        if weights_hash is not None and made_for != weights_hash:
            raise DataError(
                f"{path}: measured with the weights {made_for or 'unknown'}, not {weights_hash}: "
                f"the supernet has been trained since: delete {folder} and measure again"
            )
        for record in table.to_pylist():
            arch = Arch.from_json(record["arch"])
            space.check(arch)
            rows.setdefault(arch, AccuracyRow(arch, **{name: record.get(name) for name in NUMBERS}))
    return list(rows.values())


def _texts(space: Space) -> bool:
    return any(isinstance(resolution, str) for resolution in space.resolutions)


def _write(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    with open(path, "wb") as file:  # pyarrow cannot open names that are not valid Unicode
        pq.write_table(table, file)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-[0-9]*.parquet"))
