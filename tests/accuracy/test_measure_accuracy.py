"""Sub-networks are measured right, together as one by one, and the rows survive."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torch import fx

from onceforall import Arch, Plan, Space, Supernet, space
from onceforall.accuracy import AccuracyRow, append_rows, read_rows, spread, tree
from onceforall.accuracy.measure import measure_together
from onceforall.accuracy.prefix_tree import grow, networks_below, units, work
from onceforall.accuracy.rows import LATER
from onceforall.calibrate import Accuracy, Statistics, evaluate_network, recalibrate
from onceforall.costs import macs_table, segment_table
from onceforall.errors import ArchError, DataError, FileError, StatisticsError

TINY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3,), resolutions=(32, 48))
SEGMENTS = segment_table(TINY, 5)
MACS = macs_table(SEGMENTS)


def batches(resolution: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(resolution)
    return [(torch.randn(n, 3, resolution, resolution, generator=generator), torch.arange(n) % 5) for n in (8, 5, 8)]


def images(resolution: int) -> list[torch.Tensor]:
    return [x for x, _ in batches(resolution)]


def alone(supernet: Supernet, arch: Arch) -> Accuracy:
    """One by one."""
    network = recalibrate(supernet.extract(arch), images(arch.resolution))
    return evaluate_network(network, batches(arch.resolution))


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6), at_once=st.sampled_from([1, 3, 100]))
def test_measured_together_as_one_by_one(small_space: Space, seed: int, at_once: int) -> None:
    """Networks that share much, that share nothing, and one given twice, in groups of every size."""
    rng = np.random.default_rng(seed)
    supernet = Supernet(small_space, num_classes=5)
    supernet.forget_statistics()
    archs = [small_space.sample(rng), small_space.largest()]
    archs += [small_space.mutate(archs[0], rng, 0.1) for _ in range(3)] + archs[:1]
    groups = units(grow({arch: small_space.lower(arch, 5) for arch in archs}), at_once)
    rows = [row for group in groups for row in measure_together(supernet, group, images, batches)]
    assert sorted(row.arch.to_json() for row in rows) == sorted({arch.to_json() for arch in archs})
    for row in rows:
        found = alone(supernet, row.arch)
        assert row.loss == pytest.approx(found.loss, rel=1e-5)  # batch norms are folded here
        one = 1.01 / 21  # image, of which two classes may nearly tie
        assert (row.top1, row.images) == (pytest.approx(found.top1, abs=one), 21)
        assert row.top1_half is not None
        assert row.top1_rest is not None
        assert round(11 * row.top1_half) + round(10 * row.top1_rest) == round(21 * row.top1)
        assert row.seconds > 0


def test_statistics_can_be_gone_on_with() -> None:
    supernet, rng = Supernet(TINY, 5), np.random.default_rng(0)
    archs = [TINY.sample(rng) for _ in range(4)]
    found: dict[Arch, Statistics] = {}
    measure_together(supernet, archs, lambda resolution: images(resolution)[:1], batches, statistics=found)
    assert set(found) == set(archs)
    for arch in archs:
        whole = recalibrate(supernet.extract(arch), images(arch.resolution)).network.state_dict()
        more = recalibrate(supernet.extract(arch), images(arch.resolution)[1:], begun=found[arch])
        assert more.images == 21
        running = {name: value for name, value in more.network.state_dict().items() if "running_" in name}
        assert running
        for name, value in running.items():
            torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)


def test_networks_that_compute_the_same_end_together() -> None:
    """Ratios 2 and 2.1 round to one middle width."""
    same = space("mobilenet_v3", width=0.25, depths=(1,), kernels=(3,), expand_ratios=(2, 2.1), resolutions=(32,))
    archs = [same.smallest(), same.largest()]
    (root,) = grow({arch: same.lower(arch, 5) for arch in archs})
    assert networks_below([root]) == archs
    while root.children:
        (root,) = root.children
    assert root.archs == archs
    rows = measure_together(Supernet(same, 5), archs, images, batches)
    assert rows[0].loss == rows[1].loss


@pytest.mark.parametrize("metric", ["top1", "balanced", "macro_f1"])
def test_halves_have_their_part_of_each_class(metric: str) -> None:
    """Scores of either half as scikit-learn finds them, for uneven classes in any order, the last of one image."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [20, 7, 4, 1]))
    x = torch.randn(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = list(zip(x.split(9), torch.tensor(labels).split(9), strict=True))
    supernet, arch = Supernet(TINY, 5), replace(TINY.smallest(), resolution=32)
    (row,) = measure_together(supernet, [arch], lambda _: [x], lambda _: parts, metric=metric)
    network = recalibrate(supernet.extract(arch), [x]).network
    with torch.no_grad():
        p = network(x).softmax(1).numpy()
    places = np.empty(len(labels), int)
    for label in range(4):
        places[labels == label] = np.arange((labels == label).sum()) + label
    scorers = {"top1": accuracy_score, "balanced": recall_score, "macro_f1": f1_score}
    more = {} if metric == "top1" else {"average": "macro", "zero_division": 0}

    def scores(part: np.ndarray) -> tuple[float, float]:
        wanted, sure = labels[part], p[part, labels[part]]
        classes = [sure[wanted == label].mean() for label in np.unique(wanted)]
        known = {"labels": np.unique(wanted)} if metric == "balanced" else {}
        return scorers[metric](wanted, p[part].argmax(1), **more, **known), sure.mean() if metric == "top1" else np.mean(classes)

    everything = np.arange(len(labels))
    for part, found in (
        (everything, (row.value, row.soft)),
        (everything[places % 2 == 0], (row.top1_half, row.soft_half)),
        (everything[places % 2 == 1], (row.top1_rest, row.soft_rest)),
    ):
        assert found == pytest.approx(scores(part), rel=1e-4)


def test_a_half_without_images_has_no_score() -> None:
    (row,) = measure_together(
        Supernet(TINY, 5), [TINY.smallest()], images, lambda r: [(torch.randn(1, 3, r, r), torch.tensor([2]))]
    )
    assert (row.top1_half, row.soft_half, row.top1_rest, row.soft_rest) == (None,) * 4
    assert row.soft is not None


def test_what_is_shared_is_run_once() -> None:
    archs = tree(TINY, np.random.default_rng(0), 24, SEGMENTS)
    plans = {arch: TINY.lower(arch, 5) for arch in archs}
    beginnings_ = {plan.segments[: i + 1] for plan in plans.values() for i in range(len(plan.segments))}
    assert sum(node.work for node in grow(plans)) == pytest.approx(sum(work(path[-1]) for path in beginnings_))
    runs = 0
    supernet = Supernet(TINY, 5)
    cut = supernet.cut

    def counting(plan: Plan, *, dropout: float = 0.0) -> fx.GraphModule:
        network = cut(plan, dropout=dropout)

        def count(*_: object) -> None:
            nonlocal runs
            runs += 1

        network.register_forward_hook(count)
        return network

    supernet.cut = counting  # type: ignore[method-assign]
    measure_together(supernet, archs, images, batches)
    assert runs == 6 * len(beginnings_), "3 batches to calibrate on and 3 to evaluate"


@pytest.mark.parametrize(
    ("calibration", "evaluation", "message"),
    [
        (lambda r: [], batches, "got no batches: give at least one batch of training images"),
        (lambda r: [torch.randn(1, 3, r, r)], batches, "a batch of 1 image"),
        (lambda r: [torch.randn(2, 3, r, r), torch.randn(2, 3, r, r + 1)], batches, "statistics hold for one resolution"),
        (lambda r: [torch.full((2, 3, r, r), torch.nan)], batches, "the weights have diverged"),
        (images, lambda r: [(torch.randn(2, 3, r + 1, r), torch.zeros(2, dtype=torch.long))], "were measured at"),
    ],
)
def test_statistics_that_cannot_be(calibration: Any, evaluation: Any, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        measure_together(Supernet(TINY, 5), [TINY.smallest()], calibration, evaluation)


def test_no_images() -> None:
    with pytest.raises(DataError, match="no images to evaluate on"):
        measure_together(Supernet(TINY, 5), [TINY.smallest()], images, lambda r: [])


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(ArchError):
        measure_together(Supernet(TINY, 5), [TINY.smallest(), space("mobilenet_v3").smallest()], images, batches)


def some_rows(n: int, seed: int = 0) -> list[AccuracyRow]:
    rng = np.random.default_rng(seed)
    names = ("top1", "loss", "seconds", *LATER)
    return [
        AccuracyRow(arch, images=100, **dict(zip(names, rng.random(len(names)).tolist(), strict=True)))
        for arch in spread(TINY, rng, n, MACS)
    ]


def test_rows_come_back_in_order_each_once(tmp_path: Path) -> None:
    rows = some_rows(9)
    assert read_rows(tmp_path / "accuracy", TINY) == []
    for part in (rows[:4], [], rows[4:5], rows[3:]):
        append_rows(tmp_path / "accuracy", TINY, part, weights_hash="abc")
    assert read_rows(tmp_path / "accuracy", TINY, weights_hash="abc") == read_rows(str(tmp_path / "accuracy"), TINY) == rows
    table = pq.read_table(tmp_path / "accuracy" / "part-00000.parquet")
    assert table.column_names == [
        "arch",
        "genes",
        "resolution",
        "top1",
        "loss",
        "images",
        "seconds",
        "top1_half",
        "score",
        "soft",
        "soft_half",
        "top1_rest",
        "soft_rest",
    ]
    assert table["genes"].to_pylist() == TINY.genes([row.arch for row in rows[:4]]).tolist()


def test_files_of_before_are_read(tmp_path: Path) -> None:
    rows = some_rows(4)
    append_rows(tmp_path, TINY, rows, weights_hash="abc")
    path = tmp_path / "part-00000.parquet"
    for dropped in (LATER[-2:], LATER):
        pq.write_table(pq.read_table(path).drop_columns([name for name in dropped if name in pq.read_schema(path).names]), path)
        assert read_rows(tmp_path, TINY, weights_hash="abc") == [replace(row, **dict.fromkeys(dropped)) for row in rows]


def test_interpolated_rows_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="interpolated rows cannot be written"):
        append_rows(tmp_path / "new", TINY, [replace(some_rows(2)[0], interpolated=True)], weights_hash="abc")
    assert not (tmp_path / "new").exists()


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


@pytest.mark.parametrize("metric", ["balanced", "macro_f1"])
def test_rows_of_another_metric(metric: str, tmp_path: Path) -> None:
    """Uneven classes: the score is that of the network alone, and is kept."""
    supernet = Supernet(TINY, 5)

    def uneven(resolution: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(x, labels * (torch.arange(len(labels)) > 4)) for x, labels in batches(resolution)]

    (row,) = measure_together(supernet, [TINY.smallest()], images, uneven, metric=metric)
    network = recalibrate(supernet.extract(TINY.smallest()), images(32))
    found = evaluate_network(network, uneven(32))
    assert row.top1 == found.top1
    assert row.value == row.score == found.score(metric)
    counts = np.bincount(torch.cat([labels for _, labels in uneven(32)]).numpy())
    assert row.images == round(np.count_nonzero(counts) ** 2 / (1 / counts[counts > 0]).sum())
    append_rows(tmp_path, TINY, [row], weights_hash="abc")
    assert read_rows(tmp_path, TINY) == [row]
    assert AccuracyRow(row.arch, 0.5, 1.0, 10, 1.0).value == 0.5
