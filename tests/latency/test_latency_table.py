import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onceforall
from onceforall.costs import segment_table
from onceforall.errors import ArchError, DeviceError, FileError
from onceforall.latency import Device, LatencyErrors, LatencyTable, Measured

SPACE = onceforall.space("mobilenet_v3", width=0.35, resolutions=(20, 24), depths=(1, 2), kernels=(3, 5))
ERRORS = LatencyErrors((1.0, 2.2, 2.9), (1.0, 2.0, 3.0))


@pytest.fixture
def table() -> LatencyTable:
    costs = segment_table(SPACE, 10).costs(lambda segment: 1e-6 * segment.macs + 0.01)
    return LatencyTable(costs, 10, "a processor", Measured(Device("pytorch"), "1.0", 0.1, 2.0, ERRORS))


def test_estimate_is_the_sum_over_segments(table: LatencyTable) -> None:
    genes = SPACE.sample_genes(np.random.default_rng(0), 30)
    plans = [SPACE.lower(arch, 10) for arch in SPACE.archs(genes)]
    expected = [1e-6 * plan.macs + 0.01 * len(plan.segments) for plan in plans]
    assert table.estimate(genes) == pytest.approx(expected)
    assert table.estimate(SPACE.archs(genes)) == pytest.approx(expected)


def test_round_trip(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    table.save(path)
    again = LatencyTable.load(path, SPACE, 10)
    genes = SPACE.sample_genes(np.random.default_rng(0), 30)
    assert again.estimate(genes).tolist() == table.estimate(genes).tolist()
    assert replace(again, costs=table.costs) == table


@pytest.mark.parametrize(
    ("space", "num_classes"),
    [
        (SPACE, 11),
        (SPACE.restrict(kernels=(3,)), 10),
        (onceforall.space("mobilenet_v3", width=0.35, resolutions=(20, 28), depths=(1, 2), kernels=(3, 5)), 10),
    ],
)
def test_another_space_is_refused(table: LatencyTable, tmp_path: Path, space: onceforall.Space, num_classes: int) -> None:
    table.save(tmp_path / "latency.json")
    with pytest.raises(DeviceError, match="made for another search space or number of classes"):
        LatencyTable.load(tmp_path / "latency.json", space, num_classes)


def test_damaged_files_are_refused(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    with pytest.raises(FileError, match="no such file"):
        LatencyTable.load(path, SPACE, 10)
    path.write_text("[]")
    with pytest.raises(FileError, match=r"not a latency table of format 'onceforall.latency/2'"):
        LatencyTable.load(path, SPACE, 10)
    table.save(path)
    data = json.loads(path.read_text())
    for broken in (
        {"errors": {}},
        {"slots": data["slots"][1:]},
        {"slots": [{"ms": [1]}] * len(data["slots"])},
        {"baseline_ms": "x"},
        {"baseline_ms": -1},
        {"anchor_ms": -1},
        {"errors": {"predicted": [1.0], "measured": [float("inf")]}},
    ):
        path.write_text(json.dumps({**data, **broken}))
        with pytest.raises(FileError, match=r"damaged (latency table|or edited) .*: make it again with ofa profile"):
            LatencyTable.load(path, SPACE, 10)


@pytest.mark.parametrize("time", ["1" + "0" * 400, "1e400", "Infinity", "-Infinity", "-5", "NaN", "null", '"x"', "[1]", "{}"])
def test_times_that_are_none_of_a_network(table: LatencyTable, tmp_path: Path, time: str) -> None:
    path = tmp_path / "latency.json"
    table.save(path)
    data = json.loads(path.read_text())
    data["slots"][1]["ms"][-1] = "here"
    path.write_text(json.dumps(data).replace('"here"', time))
    with pytest.raises(FileError, match="damaged latency table") as caught:
        LatencyTable.load(path, SPACE, 10)
    assert "\n" not in str(caught.value)


def test_rows_of_no_network_have_no_latency(table: LatencyTable) -> None:
    genes = SPACE.genes([SPACE.smallest(), SPACE.largest()])
    for wrong in (np.full_like(genes, -1), genes[:, 1:], genes.astype(float), np.where(genes == genes.max(), 99, genes)):
        with pytest.raises(ArchError, match=r"outside|has shape|whole numbers"):
            table.estimate(wrong)


def test_errors() -> None:
    assert ERRORS.n == 3
    assert ERRORS.mape == pytest.approx((0 + 0.1 + 1 / 30) / 3)
    assert ERRORS.kendall_tau == 1
    assert LatencyErrors((3.0, 2.0, 1.0), (1.0, 2.0, 3.0)).kendall_tau == -1
    assert LatencyErrors((1.0, 3.0, 2.0), (1.0, 2.0, 3.0)).kendall_tau == pytest.approx(1 / 3)
    assert ERRORS.within(0.05) == pytest.approx(2 / 3)
    assert str(ERRORS) == (
        "mean error 4.4% (0.0% to 10.0%), Kendall tau 1.000 (0.000 to 1.000), 95 % of them within ±9.3% (n = 3 networks not used "
        "to make the table)"
    )


def test_intervals_hold_what_other_networks_would_have_given() -> None:
    """The true mean error lies in nearly 95 % of the intervals of 60 sets of 50 networks (bootstrap intervals are short)."""
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(60):
        measured = rng.uniform(1, 5, 50)
        sets.append(LatencyErrors(tuple(measured * (1 + rng.normal(0, 0.03, 50))), tuple(measured)))
    truth = 0.03 * np.sqrt(2 / np.pi)  # mean of |normal|
    intervals = [errors.interval(lambda e: e.mape) for errors in sets]
    assert np.mean([low <= truth <= high for low, high in intervals]) > 0.85
    assert ERRORS.bound(0.5) == pytest.approx(1 / 30)
    low, high = sets[0].interval(lambda e: e.kendall_tau)
    assert 0.8 < low < sets[0].kendall_tau < high < 1
