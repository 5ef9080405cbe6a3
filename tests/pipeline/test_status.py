"""`ofa status`: what a run holds, what comes next, and one line for each thing that is damaged."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from onceforall.cli import run as ofa
from onceforall.common import advice
from onceforall.common.files import busy, locked
from onceforall.errors import FileError
from onceforall.pipeline import report, status
from onceforall.pipeline.status import Status
from onceforall.train import Schedule


def states(found: Status) -> dict[str, str]:
    return {part.name: part.state for part in found.parts}


def text_of(found: Status, name: str) -> str:
    (text,) = [part.text for part in found.parts if part.name == name]
    return text


def test_a_measured_run(run_copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*")}
    found = status(run_copy)
    assert {path: path.stat().st_mtime_ns for path in run_copy.rglob("*")} == before
    expected = {"run": "done", "training": "done", "profile": "done", "accuracy data": "done", "predictor": "done"}
    assert expected.items() <= states(found).items()
    assert states(found)["report"] == "missing"
    errors = json.loads((run_copy / "accuracy" / "errors.json").read_text())
    assert f"fitted on {errors['fitted_on']} sub-networks; on {errors['n']} others" in text_of(found, "predictor")
    assert text_of(found, "accuracy data").startswith(f"{errors['fitted_on'] + errors['n']} sub-networks, top-1 ")
    assert [command.split()[1] for command in found.next] == ["evaluate", "search", "specialise", "report"]
    assert found.next[0] == f"ofa evaluate {shlex.quote(str(run_copy))} --arch random:16"


def test_a_network_that_was_evaluated_again_is_one(run_copy: Path) -> None:
    line = {"name": "largest", "split": "held-out", "arch": "one", "top1": 0.5, "images": 20}
    lines = [line, {**line, "split": "test"}, {**line, "arch": "two"}]
    (run_copy / "evaluations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = status(run_copy)
    assert text_of(found, "evaluations").startswith("2 sub-networks in 3 evaluations; the last, largest: ")
    (facts,) = [part.facts for part in found.parts if part.name == "evaluations"]
    assert (facts["sub_networks"], facts["evaluations"]) == (2, 3)


def test_what_it_proposes_is_possible(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in status(run_copy).next:
        if command.split()[1] in ("evaluate", "report"):
            assert ofa(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    found = status(run_copy)
    assert states(found)["evaluations"] == states(found)["report"] == "done"
    assert [command.split()[1] for command in found.next] == ["search", "specialise"]
    later = (run_copy / "report.html").stat().st_mtime + 10
    os.utime(run_copy / "accuracy" / "predictor.safetensors", (later, later))
    assert "older than accuracy/predictor.safetensors" in text_of(status(run_copy), "report")


def test_a_training_that_was_interrupted(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "a run"))
    (out / "supernet.safetensors").unlink()
    found = status(out)
    last = max(int(path.stem.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*"))
    assert f"can be resumed from step {last:,} of " in text_of(found, "training")
    assert found.next[0] == f"ofa train digits --out {shlex.quote(str(out))} --resume"
    assert all(command.split()[1] in ("train", "profile", "report") for command in found.next)
    with locked(out):
        assert states(status(out))["training"] == "going on"
        assert not any(command.split()[1] in ("train", "profile") for command in status(out).next)
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(b"torn")
    assert "every checkpoint is damaged" in text_of(status(out), "training")


def test_weights_trained_since(run_copy: Path) -> None:
    path = run_copy / "supernet.safetensors"
    with safe_open(path, "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in list(file.keys())}
    save_file(tensors, path, {**metadata, "sha256": "0" * 64})
    found = status(run_copy)
    assert states(found)["accuracy data"] == states(found)["predictor"] == "stale"
    assert "measured with the weights" in text_of(found, "accuracy data")
    assert "fitted for other weights" in text_of(found, "predictor")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("metrics.jsonl", "training"),
        ("supernet.safetensors", "training"),
        ("latency/onnxruntime-threads1-batch1/table.json", "profile"),
        ("accuracy/part-00000.parquet", "accuracy data"),
        ("accuracy/errors.json", "predictor"),
        ("accuracy/predictor.safetensors", "predictor"),
        ("specialised/best.json", "network"),
    ],
)
def test_damaged_files(run_copy: Path, capsys: pytest.CaptureFixture[str], file: str, part: str) -> None:
    (run_copy / "specialised").mkdir(exist_ok=True)
    for content in (b'{"step": []}', b"[1]", b"\xff\xfe"):
        if content == b'{"step": []}' or file != "metrics.jsonl":  # torn lines of that are left out
            (run_copy / file).write_bytes(content)
            assert states(status(run_copy))[part] == "damaged"
            assert ofa(["status", str(run_copy)]) == 0
            out, err = capsys.readouterr()
            assert err == ""
            assert sum(line.startswith("damaged") for line in out.splitlines()) >= 1
            assert "Traceback" not in out


def test_no_run_a_beginning_and_a_damaged_one(tmp_path: Path, run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileError, match="not a run directory"):
        status(tmp_path)
    with pytest.raises(FileError, match="it does not exist"):
        status(tmp_path / "missing")
    assert ofa(["status", str(tmp_path / "missing")]) == 1
    assert capsys.readouterr().err.startswith("ofa: ")
    (run_copy / "run.json").write_text("{}")
    assert "damaged or edited" in text_of(status(run_copy), "run")
    (run_copy / "run.json").unlink()
    assert states(status(run_copy)) == {"run": "unfinished"}


def test_for_machines(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(run_copy)
    assert ofa(["status", str(run_copy), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = status(run_copy)
    assert record["next"] == list(found.next)
    assert [part["text"] for part in record["parts"]] == [part.text for part in found.parts]
    assert [part["device"] for part in record["parts"] if part["name"] == "profile"] == ["onnxruntime:threads=1,batch=1"]
    facts = {part["name"]: part["facts"] for part in record["parts"]}
    errors = json.loads((run_copy / "accuracy" / "errors.json").read_text())
    assert facts["predictor"].items() >= {"fitted_on": errors["fitted_on"], "rmse": errors["rmse"], "measured_since": 0}.items()
    assert facts["accuracy data"]["sub_networks"] == errors["fitted_on"] + errors["n"]
    assert facts["training"]["step"] == Schedule.from_json((run_copy / "schedule.json").read_text()).steps
    assert facts["run"]["classes"] == 10
    assert 0 < facts["profile"]["mean_error"] < 1


def test_busy(tmp_path: Path) -> None:
    assert not busy(tmp_path)
    assert not (tmp_path / ".lock").exists()
    with locked(tmp_path):
        assert busy(tmp_path)
    assert not busy(tmp_path)


def test_what_mends_damaged_accuracy_data(run_copy: Path) -> None:
    """Nothing that needs them is proposed before; and rows that are gone are missed."""
    parts = sorted((run_copy / "accuracy").glob("part-*.parquet"))
    whole = parts[-1].read_bytes()
    parts[-1].write_bytes(whole[:100])
    found = status(run_copy)
    assert states(found)["accuracy data"] == "damaged"
    (told,) = (part.text for part in found.parts if part.name == "accuracy data")
    assert told.endswith(f"then {advice.ofa('predict', run_copy)}")
    assert states(found)["predictor"] == "stale"
    assert not any(word in command for command in found.next for word in ("report", "search", "specialise"))
    parts[-1].unlink()
    found = status(run_copy)
    (predictor,) = (part for part in found.parts if part.name == "predictor")
    assert predictor.state == "stale"
    assert predictor.text.endswith(" of them are gone")
    assert advice.ofa("predict", run_copy) in found.next
    parts[-1].write_bytes(whole)
    (run_copy / "accuracy" / "predictor.safetensors").write_bytes(b"damaged")
    assert advice.ofa("accuracy", "fit", run_copy) in status(run_copy).next
