"""Where and how precisely a training computes."""

from pathlib import Path

import pytest
import torch

from onceforall.common.files import read_json, read_lines
from onceforall.errors import DataError, TrainingError
from onceforall.pipeline import evaluate, predict, train
from onceforall.pipeline.run_directory.run import Run
from onceforall.pipeline.training.compute import Compute, choose_compute
from tiny_run import SUBNETS, TRAINING

NO_GPU = not torch.cuda.is_available()


def test_the_cpu_computes_in_float32() -> None:
    assert choose_compute("cpu") == Compute(torch.device("cpu"), "float32")
    assert choose_compute("cpu", "bfloat16") == Compute(torch.device("cpu"), "bfloat16")


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("tpu", None, "unknown device 'tpu'"),
        ("cpu:1", None, "unknown device 'cpu:1'"),
        ("cuda:x", None, "unknown device 'cuda:x'"),
        ("cuda:99", None, "so there is no GPU 99: use --device cpu"),
        ("cpu", "float8", "unknown precision 'float8': choose one of float32, bfloat16"),
    ],
)
def test_what_is_not_there(device: str, precision: str | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        choose_compute(device, precision)


def test_one_gpu_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="cuda:0: the 2 processes on this machine cannot share one GPU: use --device cuda"):
        choose_compute("cuda:0")


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_auto_without_a_gpu() -> None:
    assert choose_compute() == Compute(torch.device("cpu"), "float32")


def test_bfloat16_learns_as_float32_does(tmp_path: Path, own_cache: None) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        run = train("digits", out=tmp_path / precision, device="cpu", precision=precision, **{**TRAINING, "epochs": 6.0})
        assert read_json(run.folder / "run.json")["environment"]["precision"] == precision
        losses[precision] = [r["loss"] for r in read_lines(run.folder / "metrics.jsonl") if r["event"] == "train"]
        assert all(p.dtype == torch.float32 for p in run.supernet().parameters())
    first, second = losses["float32"], losses["bfloat16"]
    assert first != second
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) < 0.15 * first[0]


def test_the_limit_of_the_cache_is_kept_in_the_run(tmp_path: Path, own_cache: None) -> None:
    with pytest.raises(DataError, match="over the limit of 1e-05 GB: raise it with --cache-gb"):
        train("digits", out=tmp_path / "small", cache="decoded", cache_gb=1e-5, **TRAINING)
    run = train("digits", out=tmp_path / "run", cache_gb=0.5, **TRAINING)
    assert run.require_images().cache_gb == 0.5
    assert Run.open(run.folder).require_images().cache_gb == 0.5


@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
def test_on_a_gpu(tmp_path: Path, own_cache: None) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        run = train("digits", out=tmp_path / device, device=device, precision="float32", **TRAINING)
        losses[device] = [r["loss"] for r in read_lines(run.folder / "metrics.jsonl") if r["event"] == "train"]
        (result,) = evaluate(run.folder, device=device)
        assert not torch.backends.cudnn.allow_tf32
        assert 0 <= result.accuracy.top1 <= 1
        predict(run.folder, subnets=SUBNETS, device=device)
    assert max(abs(a - b) for a, b in zip(losses["cpu"], losses["cuda"], strict=True)) < 0.05 * losses["cpu"][0]
    train("digits", out=tmp_path / "half", device="cuda", budget_s=20, **{k: v for k, v in TRAINING.items() if k != "epochs"})
