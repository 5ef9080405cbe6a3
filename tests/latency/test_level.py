"""A device's level is the mean of its last profiles, and that of each profile stays what it was."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_profile_space import SPACE, TINY

from onceforall.errors import FileError
from onceforall.latency import Device, LatencyTable, profile_space
from onceforall.latency.profile import ALIKE, PROFILES, settled_level

HERE = {"device": "onnxruntime:threads=1,batch=1", "processor": "one", "version": "1", "anchor": "a"}


def test_mean_of_the_last(tmp_path: Path) -> None:
    path, times = tmp_path / "new" / "levels.jsonl", [1.0, 1.02, 0.98, 1.05, 1.01, 1.03, 0.99]
    for i, ms in enumerate(times):
        last = times[max(0, i + 1 - PROFILES) : i + 1]
        level, profiles = settled_level(path, HERE, f"p{i}", ms)
        assert (level, profiles) == (pytest.approx(math.prod(last) ** (1 / len(last))), len(last))
    before = path.read_text()
    assert settled_level(path, HERE, "p1", 1.02) == (pytest.approx((1.0 * 1.02) ** 0.5), 2), "as it was"
    assert path.read_text() == before


@pytest.mark.parametrize("key", HERE)
def test_other_devices_do_not_count(tmp_path: Path, key: str) -> None:
    path = tmp_path / "levels.jsonl"
    settled_level(path, {**HERE, key: "other"}, "x", 1.0)
    assert settled_level(path, HERE, "y", 1.04) == (pytest.approx(1.04), 1)
    assert settled_level(path, HERE, "z", 1.0) == (pytest.approx(1.04**0.5), 2)


def test_a_machine_that_has_changed_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "levels.jsonl"
    settled_level(path, HERE, "x", 1.0)
    assert settled_level(path, HERE, "y", 1.2) == (pytest.approx(1.2), 1)
    assert settled_level(path, HERE, "z", 1.01) == (pytest.approx(1.01**0.5), 2)


@given(ms=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=9))
def test_between_this_profile_and_those_before(tmp_path_factory: pytest.TempPathFactory, ms: list[float]) -> None:
    path = tmp_path_factory.mktemp("levels") / "levels.jsonl"
    for i, own in enumerate(ms):
        level, profiles = settled_level(path, HERE, str(i), own)
        assert own / (1 + ALIKE) < level < own * (1 + ALIKE) + 1e-9
        assert 1 <= profiles <= min(PROFILES, i + 1)


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "levels.jsonl"
    path.write_text('{"dev\n[]\n' + json.dumps({**HERE, "profile": "x", "ms": "fast"}) + "\n" + json.dumps(HERE) + "\n")
    assert settled_level(path, HERE, "y", 1.0) == (pytest.approx(1.0), 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        settled_level(tmp_path / "file" / "levels.jsonl", HERE, "y", 1.0)


def test_a_table_has_the_level(tmp_path: Path) -> None:
    """All its times, by one factor; those of the first profile stay."""
    pytest.importorskip("onnxruntime")
    device, levels, genes = Device("onnxruntime"), tmp_path / "levels.jsonl", SPACE.sample_genes(np.random.default_rng(0), 20)

    def made(name: str, levels: Path | None) -> LatencyTable:
        return profile_space(SPACE, 3, device, folder=tmp_path / name, effort=TINY, levels=levels)

    alone = made("first", None)
    first = made("first", levels)
    assert first.estimate(genes).tolist() == alone.estimate(genes).tolist()
    assert first.measured == alone.measured
    (record,) = map(json.loads, levels.read_text().splitlines())
    levels.write_text(json.dumps({**record, "ms": 1.04 * record["ms"]}) + "\n")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("measurements.jsonl", "profile.json"):
        (other / name).write_text((tmp_path / "first" / name).read_text().replace(record["profile"], "other"))
    second = made("other", levels)
    assert second.measured is not None
    assert second.measured.profiles == 2
    np.testing.assert_allclose(second.estimate(genes), 1.04**0.5 * alone.estimate(genes), rtol=1e-6)
    np.testing.assert_allclose(second.errors.measured, 1.04**0.5 * np.array(alone.errors.measured), rtol=1e-9)
    assert second.errors.mape == pytest.approx(alone.errors.mape, rel=1e-4)
    second.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json", SPACE, 3).measured == second.measured
    (tmp_path / "file").write_text("")
    assert made("other", tmp_path / "file" / "levels.jsonl").estimate(genes).tolist() == alone.estimate(genes).tolist(), "no place"
