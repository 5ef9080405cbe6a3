"""A whole profile of a tiny space, on each runtime that loads quickly; whatever time networks take, no assertion is about it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runtime_contract import SLOW, runtime_here

import onceforall
from onceforall.backends import RUNTIMES
from onceforall.common.progress import Progress
from onceforall.errors import DeviceError, FileError
from onceforall.latency import Device, Effort, LatencyTable, measure_networks, profile_space, stand_in
from onceforall.latency.profile import _leveled

SPACE = onceforall.space(
    "mobilenet_v3",
    width=0.2,
    resolutions=(10, 12, 14),
    strides=(1, 1, 2, 2, 1, 1, 2),
    depths=(1, 2),
    kernels=(3,),
    expand_ratios=(2, 3),
)
TINY = Effort(resolutions=2, fit=6, test=4, passes=3, rounds=2, limit=float("inf"))


def wanted(folder: Path) -> list[str]:
    """Keys of what was measured, without the anchor."""
    records = [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines() if line.endswith("}")]
    return [record["key"] for record in records if record["what"] != "anchor"]


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in SLOW])
def test_profile_is_kept_and_used_again(runtime: str, tmp_path: Path) -> None:
    runtime_here(runtime)
    calls: list[tuple[int, int, str]] = []
    device = Device(runtime)
    table = profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY, progress=Progress(count=lambda *call: calls.append(call)))
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]
    assert {what.split(",")[0] for _, _, what in calls} == {"segments", "networks"}
    assert any(" left" in what for _, _, what in calls)
    assert " left" not in calls[0][2] + calls[-1][2]  # nothing is known, nothing is left

    genes = SPACE.sample_genes(np.random.default_rng(0), 50)
    estimate = table.estimate(genes)
    assert estimate.dtype == np.float64
    assert (estimate > 0).all()
    assert np.isfinite(estimate).all()
    assert table.errors.n == 4
    assert table.device == device

    lines = (tmp_path / "measurements.jsonl").read_text().splitlines()
    assert len(wanted(tmp_path)) == calls[-1][1]
    assert {"key", "what", "group", "ms", "low", "high", "repeats"} == set(json.loads(lines[0]))
    again = profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY)
    assert again.estimate(genes).tolist() == estimate.tolist()
    assert again.baseline_ms == table.baseline_ms

    needed = wanted(tmp_path)
    (tmp_path / "measurements.jsonl").write_text("\n".join(lines[:-3]) + '\n{"key": "to')  # torn by a crash
    calls.clear()
    profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY, progress=Progress(count=lambda *call: calls.append(call)))
    assert sorted(wanted(tmp_path)) == sorted(needed)
    assert calls[-1][0] == calls[-1][1]

    table.save(tmp_path / "latency.json")
    assert LatencyTable.load(tmp_path / "latency.json", SPACE, 3).errors == table.errors


def test_another_version_or_a_damaged_profile(tmp_path: Path) -> None:
    """What was measured with another version of the runtime is not mixed with what is measured now."""
    device, head = Device("onnxruntime"), tmp_path / "profile.json"
    profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY)
    before, lines = json.loads(head.read_text()), (tmp_path / "measurements.jsonl").read_text()
    head.write_text(json.dumps({**before, "version": "0.1"}))
    with pytest.raises(DeviceError, match=rf"measured with version 0.1, which is now {before['version']}: .* --again"):
        profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY)
    head.write_text(json.dumps({**before, "baseline_ms": 0}))
    with pytest.raises(FileError, match="damaged: measure again with --again"):
        profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY)
    assert (tmp_path / "measurements.jsonl").read_text() == lines
    table = profile_space(SPACE, 3, device, folder=tmp_path, effort=TINY, again=True)
    assert table.baseline_ms == json.loads(head.read_text())["baseline_ms"]
    assert len((tmp_path / "measurements.jsonl").read_text().splitlines()) == len(lines.splitlines())


def test_measurements_that_cannot_be_are_made_anew(tmp_path: Path) -> None:
    profile_space(SPACE, 3, Device("onnxruntime"), folder=tmp_path, effort=TINY)
    log = tmp_path / "measurements.jsonl"
    lines, before = log.read_text().splitlines(), len(wanted(tmp_path))
    for i, ms in enumerate(("NaN", "-1.0", "0.0", '"fast"', "null")):
        lines[i] = json.dumps({**json.loads(lines[i]), "ms": 0}).replace('"ms": 0', f'"ms": {ms}')
    log.write_text("\n".join(lines) + "\n")
    profile_space(SPACE, 3, Device("onnxruntime"), folder=tmp_path, effort=TINY)
    assert len(wanted(tmp_path)) == before + 5


def test_half_of_the_networks_is_enough_for_a_generous_target(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    effort = replace(TINY, fit=40, target=10.0)
    space = replace(SPACE, resolutions=tuple(range(10, 30)))
    profile_space(
        space, 3, Device("onnxruntime"), folder=tmp_path, effort=effort, progress=Progress(count=lambda *call: calls.append(call))
    )
    assert calls[-1][0] == calls[-1][1] == calls[0][1] - 20 * effort.passes


def test_folder_of_another_profile_is_refused(tmp_path: Path) -> None:
    profile_space(SPACE, 3, Device("onnxruntime"), folder=tmp_path, effort=TINY)
    for classes, runtime in ((3, "pytorch"), (4, "onnxruntime")):
        with pytest.raises(DeviceError, match="holds the profile of another space or device"):
            profile_space(SPACE, classes, Device(runtime), folder=tmp_path, effort=TINY)


def test_small_spaces() -> None:
    small = SPACE.restrict(depths=(1,), expand_ratios=(2,))
    with pytest.raises(DeviceError, match="has 3 networks and a table needs 5"):
        profile_space(small, 3, Device("onnxruntime"), effort=TINY)
    eight = replace(SPACE.restrict(depths=(1,), expand_ratios=(2,)), resolutions=tuple(range(8, 16)))
    assert profile_space(eight, 3, Device("onnxruntime"), effort=TINY).errors.n == 4


def test_measure_networks() -> None:
    plans = [SPACE.lower(arch, 3) for arch in (SPACE.smallest(), SPACE.largest())]
    timings = measure_networks([(plan, stand_in(plan)) for plan in plans], Device("onnxruntime"), rounds=2, limit=float("inf"))
    assert all(0 < t.low <= t.ms <= t.high for t in timings)


def test_what_groups_have_in_common_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    plans, groups = rng.normal(size=120), rng.normal(0, 0.1, size=12)
    own = np.concatenate([np.arange(120)] * 3 + [np.full(12, 120)])  # three times each, and the anchor in each group
    where = np.concatenate([4 * i + rng.permutation(120) % 4 for i in range(3)] + [np.arange(12)])
    logs = np.append(plans, 0.5)[own] + groups[where]
    logs[7] += 3  # gone wrong
    found = _leveled(own, where, logs)
    np.testing.assert_allclose(found - found[120], np.append(plans, 0.5) - 0.5, atol=1e-3)
