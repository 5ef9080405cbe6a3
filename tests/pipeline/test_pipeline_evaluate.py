"""Evaluate and predict: on held-out images only, and safe to interrupt."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import onceforall
from onceforall.accuracy import read_rows
from onceforall.common.files import read_json, read_lines
from onceforall.common.progress import Progress
from onceforall.errors import ArchError, CheckpointError, DataError, FileError
from onceforall.pipeline import Budget, Run, evaluate, predict, search
from tiny_run import SUBNETS, openings


def test_evaluate_takes_held_out_images(run_copy: Path) -> None:
    run = Run.open(run_copy)
    results = evaluate(run_copy, arch="random:3")
    assert [result.name for result in results] == ["random 1", "random 2", "random 3"]
    assert all(result.accuracy.images == run.info.images["held-out"] for result in results)
    assert [result.arch for result in evaluate(run_copy, arch="random:3")] == [result.arch for result in results]
    assert [r["split"] for r in read_lines(run_copy / "evaluations.jsonl")] == ["held-out"] * 6
    assert openings(run_copy) == []


def test_evaluate_on_test_images_is_written_down(run_copy: Path) -> None:
    (result,) = evaluate(run_copy, arch="smallest", split="test")
    assert result.arch == Run.open(run_copy).space.smallest()
    assert result.accuracy.images == Run.open(run_copy).info.images["test"]
    assert [o["purpose"] for o in openings(run_copy)] == ["ofa evaluate --arch smallest"]


def test_evaluate_a_file(run_copy: Path, tmp_path: Path) -> None:
    arch = Run.open(run_copy).space.largest(16)
    (tmp_path / "arch.json").write_text(arch.to_json())
    for text in (tmp_path / "arch.json", tmp_path):
        (result,) = evaluate(run_copy, arch=str(text))
        assert result.arch == arch


def test_evaluating_twice_gives_the_same(run_copy: Path) -> None:
    assert evaluate(run_copy)[0].accuracy == evaluate(run_copy)[0].accuracy


@pytest.mark.parametrize(
    "text", ["random:0", "random:", "random:x", "random:-1", "random:10001", "random:99999999999", "biggest", ""]
)
def test_evaluate_what(trained: Path, text: str) -> None:
    with pytest.raises((ArchError, FileError)):
        evaluate(trained, arch=text)


def test_evaluate_an_arch_of_another_space(trained: Path, tmp_path: Path) -> None:
    other = onceforall.space("mobilenet_v3", width=1.0).largest()
    (tmp_path / "arch.json").write_text(other.to_json())
    with pytest.raises(ArchError, match=r"resolution is 224, this mobilenet_v3 space allows 16, 24"):
        evaluate(trained, arch=str(tmp_path / "arch.json"))
    (tmp_path / "arch.json").write_text("no JSON")
    with pytest.raises(ArchError, match="not an architecture"):
        evaluate(trained, arch=str(tmp_path / "arch.json"))


def test_evaluate_an_unknown_split(trained: Path) -> None:
    with pytest.raises(DataError, match="use held-out or test"):
        evaluate(trained, split="train")
    assert openings(trained) == []


# -- predict ---------------------------------------------------------------------------------------------------------------


def test_predict_checks_on_others(run_copy: Path) -> None:
    found = predict(run_copy, subnets=SUBNETS)  # everything is measured already
    checked, fitted = {row.arch for row in found.checked}, {row.arch for row in found.fitted}
    assert not checked & fitted
    assert len(checked) == SUBNETS // 4
    assert len(fitted) == SUBNETS - SUBNETS // 4
    assert {row.images for row in (*found.checked, *found.fitted)} == {Run.open(run_copy).info.images["held-out"]}
    assert openings(run_copy) == []
    assert set(read_json(run_copy / "accuracy" / "errors.json")["checked"]) == {arch.to_json() for arch in checked}


def test_predict_goes_on(run_copy: Path) -> None:
    run = Run.open(run_copy)
    before = read_rows(run_copy / "accuracy", run.space)
    shutil.rmtree(run_copy / "accuracy")
    seen = []

    def interrupt(done: int, total: int, what: str) -> None:
        seen.append(done)
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(run_copy, subnets=SUBNETS, progress=Progress(count=interrupt))
    assert seen == sorted(seen)
    kept = read_rows(run_copy / "accuracy", run.space)
    assert len(kept) == seen[-1]
    counts = []
    predict(run_copy, subnets=SUBNETS, progress=Progress(count=lambda done, total, what: counts.append(done)))
    assert (counts[0], counts[-1]) == (len(kept), SUBNETS)
    after = read_rows(run_copy / "accuracy", run.space)
    assert after[: len(kept)] == kept
    assert {(row.arch, row.top1) for row in after} == {(row.arch, row.top1) for row in before}
    assert sum(len(read_parquet(path)) for path in (run_copy / "accuracy").glob("*.parquet")) == SUBNETS


def read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet as pq

    return list(pq.read_table(path).to_pylist())


def test_predict_more_uses_what_is_there(run_copy: Path) -> None:
    before = {row.arch for row in read_rows(run_copy / "accuracy", Run.open(run_copy).space)}
    found = predict(run_copy, subnets=SUBNETS + 2, seed=1)
    assert before <= {row.arch for row in (*found.checked, *found.fitted)}


def test_predict_too_few_or_too_many(trained: Path) -> None:
    with pytest.raises(DataError, match="--subnets 15: at least 16 are needed"):
        predict(trained, subnets=15)


def test_predictions_of_other_weights(run_copy: Path) -> None:
    path = run_copy / "supernet.safetensors"
    run = Run.open(run_copy)
    supernet = run.supernet()
    supernet.get_parameter("head.classifier.bias").data += 1
    run.save_supernet(supernet)
    with pytest.raises(DataError, match="measured with the weights"):
        predict(run_copy, subnets=SUBNETS)
    with pytest.raises((CheckpointError, DataError, FileError)):
        search(run_copy, Budget())
    path.write_bytes(path.read_bytes()[:-1])
    for command in (lambda: search(run_copy, Budget()), lambda: predict(run_copy), lambda: evaluate(run_copy)):
        with pytest.raises(CheckpointError, match="damaged"):
            command()
