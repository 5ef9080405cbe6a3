"""Which sub-networks are measured, that they are measured right, and that the rows survive."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import Supernet, space
from onceforall.accuracy import AccuracyRow, append_rows, read_rows, spread
from onceforall.accuracy.measure import measure_accuracy
from onceforall.calibrate import evaluate, recalibrate
from onceforall.costs import macs_table, segment_table
from onceforall.errors import ArchError, DataError, FileError, SpaceError

TINY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3,), resolutions=(32, 48))
FEW = TINY.restrict(kernels=(3,), resolutions=(32,))  # 2^5 networks
MACS = macs_table(segment_table(TINY, 5))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_spread_covers_sizes_and_resolutions(seed: int, n: int) -> None:
    archs = spread(TINY, np.random.default_rng(seed), n, MACS)
    assert len(archs) == len(set(archs)) == n
    assert TINY.smallest() in archs
    assert TINY.largest() in archs
    assert archs == spread(TINY, np.random.default_rng(seed), n, MACS)
    count = np.array([sum(arch.resolution == r for arch in archs) for r in TINY.resolutions])
    assert abs(count[0] - count[1]) <= 2
    if n >= 40:
        logs = np.log(MACS.estimate(archs))
        filled = np.histogram(logs, 6)[0]
        assert (filled >= n / 6 / 4).all()


def test_spread_gives_every_network_of_a_small_space() -> None:
    assert len(set(spread(FEW, np.random.default_rng(0), 32, macs_table(segment_table(FEW, 5))))) == 32


@pytest.mark.parametrize("n", [1, 0, -3, 33])
def test_spread_refuses(n: int) -> None:
    with pytest.raises(SpaceError, match="give a number from 2 to 32"):
        spread(FEW, np.random.default_rng(0), n, MACS)


def batches(resolution: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(resolution)
    return [(torch.randn(8, 3, resolution, resolution, generator=generator), torch.arange(8) % 5) for _ in range(2)]


def images(resolution: int) -> list[torch.Tensor]:
    return [x for x, _ in batches(resolution)]


def test_measures_each_network_like_one_by_one() -> None:
    supernet = Supernet(TINY, num_classes=5)
    supernet.forget_statistics()
    archs = [TINY.sample(np.random.default_rng(i)) for i in range(4)]
    asked: list[int] = []

    def held_out(resolution: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        asked.append(resolution)
        return batches(resolution)

    seen: list[AccuracyRow] = []
    rows = measure_accuracy(supernet, [*archs, archs[0]], images, held_out, on_row=seen.append, done=archs[3:])
    assert seen == rows
    assert {row.arch for row in rows} == set(archs[:3])
    assert len(rows) == 3
    assert asked == [arch.resolution for arch in archs[:3]]
    for row in rows:
        alone = evaluate(recalibrate(supernet.extract(row.arch), images(row.arch.resolution)), batches(row.arch.resolution))
        assert (row.top1, row.loss, row.images) == (alone.top1, alone.loss, 16)
        assert row.seconds > 0


def test_rows_measured_before_an_interruption_are_reported() -> None:
    supernet = Supernet(TINY, num_classes=5)
    rows: list[AccuracyRow] = []

    def stop_after_two(row: AccuracyRow) -> None:
        rows.append(row)
        if len(rows) == 2:
            raise KeyboardInterrupt

    archs = [TINY.smallest(), TINY.largest(), TINY.largest(32), TINY.smallest(48)]
    with pytest.raises(KeyboardInterrupt):
        measure_accuracy(supernet, archs, images, batches, on_row=stop_after_two)
    rest = measure_accuracy(supernet, archs, images, batches, done=[row.arch for row in rows])
    assert {row.arch for row in rows + rest} == set(archs)
    assert len(rest) == 2


def test_an_architecture_of_another_space_is_refused_before_measuring() -> None:
    rows: list[AccuracyRow] = []
    with pytest.raises(ArchError):
        measure_accuracy(
            Supernet(TINY, 5), [TINY.smallest(), space("mobilenet_v3").smallest()], images, batches, on_row=rows.append
        )
    assert rows == []


def some_rows(n: int, seed: int = 0) -> list[AccuracyRow]:
    rng = np.random.default_rng(seed)
    return [AccuracyRow(arch, float(rng.random()), 1.5, 100, 0.1) for arch in spread(TINY, rng, n, MACS)]


def test_rows_come_back_in_order_each_once(tmp_path: Path) -> None:
    rows = some_rows(9)
    assert read_rows(tmp_path / "accuracy", TINY) == []
    for part in (rows[:4], [], rows[4:5], rows[3:]):
        append_rows(tmp_path / "accuracy", TINY, part, weights_hash="abc")
    assert read_rows(tmp_path / "accuracy", TINY, weights_hash="abc") == rows
    table = pq.read_table(tmp_path / "accuracy" / "part-00000.parquet")
    assert table.column_names == ["arch", "genes", "resolution", "top1", "loss", "images", "seconds"]
    assert table["genes"].to_pylist() == TINY.genes([row.arch for row in rows[:4]]).tolist()


def test_a_write_that_was_killed_leaves_no_trace(tmp_path: Path) -> None:
    rows = some_rows(6)
    append_rows(tmp_path, TINY, rows[:3], weights_hash="abc")
    (tmp_path / ".part-00001.parquet.123.tmp").write_bytes(b"PAR1 half a fi")
    append_rows(tmp_path, TINY, rows[3:], weights_hash="abc")
    assert read_rows(tmp_path, TINY) == rows


def test_rows_of_other_weights_or_spaces_or_files_are_refused(tmp_path: Path) -> None:
    append_rows(tmp_path, TINY, some_rows(3), weights_hash="abc")
    with pytest.raises(DataError, match="measured with the weights abc, not xyz"):
        read_rows(tmp_path, TINY, weights_hash="xyz")
    with pytest.raises(ArchError):
        read_rows(tmp_path, space("mobilenet_v3"))
    path = tmp_path / "part-00001.parquet"
    path.write_bytes(b"rubbish")
    with pytest.raises(FileError, match="not a Parquet file, or damaged"):
        read_rows(tmp_path, TINY)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FileError, match="not a table of measured sub-networks: its columns are a"):
        read_rows(tmp_path, TINY)
