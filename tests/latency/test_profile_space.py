"""A whole profile of a tiny space, on each runtime that loads quickly; whatever time networks take, no assertion is about it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runtime_contract import SLOW, runtime_here

import onceforall
from onceforall.errors import DeviceError
from onceforall.latency import Device, Effort, LatencyTable, measure_networks, profile_space, stand_in
from onceforall.latency.runtimes import RUNTIMES

SPACE = onceforall.space(
    "mobilenet_v3",
    width=0.2,
    resolutions=(10, 12, 14),
    strides=(1, 1, 2, 2, 1, 1, 2),
    depths=(1, 2),
    kernels=(3,),
    expand_ratios=(2, 3),
)
TINY = Effort(resolutions=2, fit=6, test=4, rounds=2, limit=float("inf"))


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in SLOW])
def test_profile_is_kept_and_used_again(runtime: str, tmp_path: Path) -> None:
    runtime_here(runtime)
    calls: list[tuple[int, int, str]] = []
    device = Device(runtime)
    table = profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY, on_progress=lambda *call: calls.append(call))
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]
    assert {what for _, _, what in calls} == {"segments", "networks"}

    genes = SPACE.sample_genes(np.random.default_rng(0), 50)
    estimate = table.estimate(genes)
    assert estimate.dtype == np.float64
    assert (estimate > 0).all()
    assert np.isfinite(estimate).all()
    assert table.errors.n == 4
    assert table.device == device

    lines = (tmp_path / "measurements.jsonl").read_text().splitlines()
    assert len(lines) == calls[-1][1]
    assert {"key", "what", "ms", "low", "high", "repeats"} == set(json.loads(lines[0]))
    again = profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY)
    assert again.estimate(genes).tolist() == estimate.tolist()
    assert again.baseline_ms == table.baseline_ms

    (tmp_path / "measurements.jsonl").write_text("\n".join(lines[:-3]) + '\n{"key": "to')  # torn by a crash
    calls.clear()
    profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY, on_progress=lambda *call: calls.append(call))
    assert len((tmp_path / "measurements.jsonl").read_text().splitlines()) == len(lines) + 1
    assert calls[-1][0] == calls[-1][1]

    table.save(tmp_path / "latency.json")
    assert LatencyTable.load(tmp_path / "latency.json", SPACE, 3).errors == table.errors


def test_folder_of_another_profile_is_refused(tmp_path: Path) -> None:
    profile_space(SPACE, 3, Device("onnxruntime"), folder=tmp_path, effort=TINY)
    for classes, runtime in ((3, "pytorch"), (4, "onnxruntime")):
        with pytest.raises(DeviceError, match="holds the profile of another space or device"):
            profile_space(SPACE, classes, Device(runtime), folder=tmp_path, effort=TINY)


def test_small_spaces() -> None:
    small = SPACE.restrict(depths=(1,), expand_ratios=(2,))
    with pytest.raises(DeviceError, match="has 3 networks, a table needs 5"):
        profile_space(small, 3, Device("onnxruntime"), effort=TINY)
    eight = replace(SPACE.restrict(depths=(1,), expand_ratios=(2,)), resolutions=tuple(range(8, 16)))
    assert profile_space(eight, 3, Device("onnxruntime"), effort=TINY).errors.n == 4


def test_measure_networks() -> None:
    plans = [SPACE.lower(arch, 3) for arch in (SPACE.smallest(), SPACE.largest())]
    timings = measure_networks([(plan, stand_in(plan)) for plan in plans], Device("onnxruntime"), rounds=2, limit=float("inf"))
    assert all(0 < t.low <= t.ms <= t.high for t in timings)
