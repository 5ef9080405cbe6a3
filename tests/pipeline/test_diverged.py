"""A training that diverges once: it goes back, the run directory tells so, and everything that reads it copes."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from onceforall.cli.views import TrainView
from onceforall.common.progress import Progress
from onceforall.data import TrainBatches
from onceforall.errors import TrainingError
from onceforall.pipeline import evaluate, report, train
from tiny_run import TRAINING


def test_a_rate_that_is_far_too_high(tmp_path: Path) -> None:
    """Three returns, then a diagnosis."""
    with pytest.raises(TrainingError, match=r"after 3 returns to a checkpoint .* use a lower --rate") as stopped:
        train("digits", out=tmp_path / "run", **TRAINING, rate=1e4)
    assert "\n" not in str(stopped.value)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["rate_factor"] for r in records if r["event"] == "rollback"][-1] == 0.125


def test_back_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = TrainBatches.batch, iter(range(10**6))

    def poisoned(self: TrainBatches, step: int, resolution: int) -> tuple[Tensor, Tensor]:
        images, labels = real(self, step, resolution)
        return (images * torch.nan if next(calls) == 7 else images), labels

    monkeypatch.setattr(TrainBatches, "batch", poisoned)
    out, shown = tmp_path / "run", io.StringIO()
    with TrainView(Console(file=shown, width=200)) as view:
        run = train("digits", out=out, **TRAINING, progress=Progress(event=view))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (back,) = (record for record in records if record["event"] == "rollback")
    assert back["reason"] == "the loss is no longer finite"
    assert back["step"] < 8 <= back["lost_step"]
    assert back["rate_factor"] == 0.5
    assert [record["step"] for record in records] == sorted(record["step"] for record in records), "what was lost is not told twice"
    said = f"the loss is no longer finite: back from step {back['lost_step']} to step {back['step']}, learning rates × 0.5"
    assert said in shown.getvalue()
    assert all(p.isfinite().all() for p in run.supernet().parameters())
    assert evaluate(out)[0].accuracy.images > 0
    assert report(out).exists()
