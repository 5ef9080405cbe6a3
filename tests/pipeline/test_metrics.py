"""metrics.jsonl: the energy of a training, over interruptions, with made-up counters; and what the report says of it."""

import shutil
from pathlib import Path

import pytest

from onceforall.common.files import read_lines
from onceforall.latency.resources import EnergyCounter
from onceforall.pipeline import Run, report
from onceforall.pipeline.run_directory import metrics
from onceforall.train import Schedule


def test_energy_of_a_training(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    run, schedule = Run.open(folder), Schedule.from_json((folder / "schedule.json").read_text())
    package = tmp_path / "counters" / "intel-rapl:0"
    package.mkdir(parents=True)
    (package / "max_energy_range_uj").write_text("10000000000")
    (package / "energy_uj").write_text("7000000")
    monkeypatch.setattr(metrics, "EnergyCounter", lambda: EnergyCounter(package.parent))
    (folder / "metrics.jsonl").unlink()
    for step in (0, 2):  # begun, and gone on with
        write = metrics.metrics_writer(folder, schedule, run.space, run.num_classes, step, lambda event: None)
        for more in (1, 2):
            (package / "energy_uj").write_text(str(int((package / "energy_uj").read_text()) + 1_800_000_000))
            write({"event": "train", "phase": "all", "step": step + more, "seconds": 1.0, "loss": 1.0, "rate": 0.1})
    assert [record["joules"] for record in read_lines(folder / "metrics.jsonl")] == [1800, 3600, 5400, 7200]
    assert "2 Wh<small>of the processor" in report(folder).read_text()


def test_nothing_is_said_of_energy_that_is_not_counted(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    run, schedule = Run.open(folder), Schedule.from_json((folder / "schedule.json").read_text())
    monkeypatch.setattr(metrics, "EnergyCounter", lambda: EnergyCounter(tmp_path))
    (folder / "metrics.jsonl").unlink()
    write = metrics.metrics_writer(folder, schedule, run.space, run.num_classes, 0, lambda event: None)
    write({"event": "train", "phase": "all", "step": 1, "seconds": 1.0, "loss": 1.0, "rate": 0.1})
    assert "joules" not in read_lines(folder / "metrics.jsonl")[0]
    assert "not counted" in report(folder).read_text()
