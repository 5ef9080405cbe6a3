"""The commands in two processes: what one process would have left, once. Torchrun itself: `test_world`, `test_two_hosts`."""

import json
import shutil
from pathlib import Path

import pytest

from onceforall.accuracy import read_rows
from onceforall.pipeline import evaluate
from onceforall.pipeline.run_directory.run import Run
from tiny_run import SUBNETS, TRAINING_TEXT
from warm import two_processes_of


def test_predict_shares_out_the_networks(measured: Path, tmp_path: Path) -> None:
    two = Path(shutil.copytree(measured, tmp_path / "two"))
    shutil.rmtree(two / "accuracy")
    ended = two_processes_of(["predict", str(two), "--subnets", str(SUBNETS), "--json"])
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["n"] == SUBNETS // 4, "one process speaks"
    found, wanted = (read_rows(run / "accuracy", Run.open(run).space) for run in (two, measured))
    assert {(row.arch, row.top1) for row in found} == {(row.arch, row.top1) for row in wanted}
    assert len(list((two / "accuracy").glob("part-*-1.parquet"))) > 0, "the second process measured some"


def test_evaluate_shares_out_the_networks(trained: Path, tmp_path: Path) -> None:
    two, alone = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("two", "alone"))
    ended = two_processes_of(["evaluate", str(two), "--arch", "random:3", "--split", "test", "--json"])
    assert ended.returncode == 0, ended.stderr
    one = evaluate(alone, arch="random:3", split="test")
    found = json.loads(ended.stdout)
    assert [row["name"] for row in found] == ["random 1", "random 2", "random 3"]
    assert [row["top1"] for row in found] == [result.accuracy.top1 for result in one]
    assert len((two / "evaluations.jsonl").read_text().splitlines()) == 3
    assert len((two / "test_openings.jsonl").read_text().splitlines()) == 1, "one opening is written down once"


def test_train(trained: Path, tmp_path: Path) -> None:
    arguments = ["train", "digits", "--out", str(tmp_path / "run"), *TRAINING_TEXT, "--scheme", "sandwich", "--from", str(trained)]
    ended = two_processes_of([*arguments, "--sync-norm"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("trained: ")
    assert ended.stdout.count("\n") == 1
    assert Run.open(tmp_path / "run").supernet().num_classes == 10
    assert Run.open(tmp_path / "run").info.origin is not None
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "one process writes"


@pytest.mark.parametrize("rank", [0, 1])
def test_parts_of_a_batch_are_the_batch(rank: int, trained: Path) -> None:
    run = Run.open(trained)
    splits = run.splits()
    whole, labels = run.train_batches(splits, 16).batch(5, 24)
    part, own = run.train_batches(splits, 16, rank, 2).batch(5, 24)
    assert (part == whole[8 * rank : 8 * rank + 8]).all()
    assert (own == labels[8 * rank : 8 * rank + 8]).all()
