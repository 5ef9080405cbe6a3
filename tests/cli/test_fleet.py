"""`ofa specialise --fleet`: a network for each device, one table, and what changed since."""

import json
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from onceforall.accuracy import read_rows
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.common.readable import percent
from onceforall.errors import FileError
from onceforall.pipeline import Run
from onceforall.pipeline.fleet import read_fleet
from tiny_run import FEW, edited

GOOD = """
devices:
- name: board
  params: 1M
  accuracy: 5%
- name: phone
  device: cpu
  macs: 100M
  export: [onnx, pytorch]
"""


def test_a_fleet(run_copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "devices.yaml"
    file.write_text(GOOD)
    options = ["specialise", str(run_copy), "--fleet", str(file), "--finalists", "1"]
    assert run(options) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["board", "phone"]
    assert (run_copy / "specialised" / "board" / "model.onnx").is_file()
    assert (run_copy / "specialised" / "phone" / "weights.safetensors").is_file()

    assert run([*options, "--json"]) == 0  # nothing has changed: nothing is made anew
    out, err = capfd.readouterr()
    rows = json.loads(out)
    assert [row["name"] for row in rows] == ["board", "phone"]
    assert rows[0]["interval"][0] < rows[0]["test"] < rows[0]["interval"][1]
    assert "board: unchanged" in err

    file.write_text(GOOD.replace("params: 1M", "params: 900k").replace("device: cpu", "device: pytorch"))
    assert run(options) == 0  # other limits are told; times of another device are not compared
    out, err = capfd.readouterr()
    board, phone = out.splitlines()
    assert f"; before within 1.00 M parameters: {percent(rows[0]['test'])}, " in board
    assert "phone: not compared with the last time, which was top-1 in float32 on onnxruntime" in err
    assert "; before" not in phone
    file.write_text(GOOD.replace("params: 1M", "params: 900k").replace("5%", "99.9 %").replace("macs: 100M", "macs: 1"))
    assert run(options) == 1
    out, err = capfd.readouterr()
    board, phone = out.splitlines()
    assert "99.9 % is required" in board
    assert "; before " in board
    assert phone.startswith("phone: none: ")
    assert err.splitlines()[-1] == "ofa: 2 of 2 devices have no suitable network: board, phone"

    file.write_text(GOOD)
    (run_copy / "fleet.json").write_text('{"format": "onceforall.fleet/1", "devices": {"board": {"key": 3}}}')
    assert run(options) == 1
    assert "devices.board.key is 3, and a string is expected" in capfd.readouterr().err


UNLIKE = """
devices:
- name: camera
  precision: int8
  params: 1M
  accuracy: 5 %
- name: board
  device: pytorch
  precision: float32
  params: 1M
  metric: macro_f1
  accuracy: 99.9 %
"""


def test_precision_and_metric_of_a_device(
    run_copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onceforall.pipeline.specialising.ready.SUBNETS", 16)
    file = tmp_path / "devices.yaml"
    file.write_text(UNLIKE)
    options = ["specialise", str(run_copy), "--fleet", str(file), "--finalists", "1", "--max-drop", "100", "--json"]
    assert run(options) == 1
    out, err = capfd.readouterr()
    camera, board = json.loads(out)
    assert (camera["precision"], camera["metric"], camera["missed"]) == ("int8", "top-1", None)
    assert (run_copy / "specialised/camera/model.int8.onnx").is_file()
    record = read_json(run_copy / "specialised/camera.json")
    assert record["device"] == "onnxruntime-int8-threads1-batch1"
    (through,) = (row for row in record["files"] if row["format"] == "onnx-int8")
    assert camera["test"] == through["top1"]
    assert (board["precision"], board["metric"]) == ("float32", "macro F1")
    assert f"no predictor of macro F1 yet: 16 sub-networks are measured first, and the results kept (in {run_copy}" in err
    record = read_json(run_copy / "specialised/board.json")
    assert record["metric"] == "macro_f1"
    assert board["test"] == record["test"]["macro_f1"] != record["test"]["top1"]
    assert board["missed"].startswith("misses its required accuracy: test macro F1 is ")
    assert board["interval"][0] < board["test"] < board["interval"][1]
    opened = Run.open(run_copy)
    rows = {row.arch: row for row in read_rows(opened.folder / "accuracy", opened.space)}
    own = read_rows(opened.folder / "accuracy-macro_f1", opened.space, weights_hash=opened.weights_hash())
    assert len(own) >= 16
    assert all(row.score is not None for row in own)
    assert all(row.score is None for row in rows.values())
    assert any(row.top1 == rows[row.arch].top1 != row.score for row in own if row.arch in rows)
    assert run(options) == 1  # both are there, and as before
    assert json.loads(capfd.readouterr().out) == [camera, board]
    assert run(["status", str(run_copy), "--json"]) == 0
    measured = [part for part in json.loads(capfd.readouterr().out)["parts"] if part["name"] == "accuracy data"]
    assert [" macro F1 " in part["text"] for part in measured] == [False, True]
    (opened.folder / "accuracy-macro_f1" / "predictor.safetensors").write_bytes(b"damaged")
    assert run(options) == 1  # it is fitted again, to what was measured
    out, err = capfd.readouterr()
    assert "no predictor of macro F1 yet" in err
    assert json.loads(out)[1]["test"] == board["test"]
    file.write_text(UNLIKE.replace("macro_f1", "top1").replace("  precision: int8\n", "").replace("5 %", "4 %"))
    assert run(options) == 1  # of another metric, and of another precision: before has nothing to say
    out, err = capfd.readouterr()
    assert [(row["metric"], row["precision"], row["before"]) for row in json.loads(out)] == [("top-1", "float32", None)] * 2
    assert "camera: not compared with the last time, which was top-1 in int8" in err
    assert "board: not compared with the last time, which was macro F1 in float32" in err
    file.write_text(UNLIKE.replace("macro_f1", "map"))
    assert run(options) == 1
    assert f"ofa: board: metric: map does not suit {run_copy}: choose from top1, balanced, macro_f1" in capfd.readouterr().err


def test_the_metric_of_the_run_counts_everywhere(run_copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    info = read_json(run_copy / "run.json")
    (run_copy / "run.json").write_text(json.dumps({**info, "metric": "balanced"}))
    file = tmp_path / "devices.yaml"
    file.write_text(GOOD.replace("params: 1M", "macs: 100M").replace("5%", "99.9 %").replace("onnx, pytorch", "onnx"))
    options = ["specialise", str(run_copy), "--fleet", str(file), "--finalists", "1"]
    assert run(options) == 1
    out, err = capfd.readouterr()
    board, phone = out.splitlines()
    assert board.startswith("board: test balanced accuracy ")
    assert "; misses its required accuracy: test balanced accuracy is " in board
    assert phone.startswith("phone: test balanced accuracy ")
    assert "phone: same network as board" in err
    assert run([*options, "--json"]) == 1
    for row in json.loads(capfd.readouterr().out):
        assert row["interval"][0] < row["test"] < row["interval"][1]
    card = (run_copy / "specialised" / "board" / "README.md").read_text()
    assert "- type: balanced_accuracy\n      name: test balanced accuracy" in card
    assert re.search(r"\| test top-1 +\| test top-5 +\| test balanced accuracy +\| latency", card)
    assert "balanced accuracy of always predicting the largest class: chance" in card
    assert run(["status", str(run_copy)]) == 0
    assert "; misses its required accuracy: test balanced accuracy is " in capfd.readouterr().out
    assert run(["report", str(run_copy)]) == 0
    page = (run_copy / "report.html").read_text()
    assert "board: misses its required accuracy: test balanced accuracy is " in page
    assert "test balanced accuracy through it" in page
    assert "balanced accuracy of the majority class <b>10.0 %</b>" in page
    assert run(["evaluate", str(run_copy), "--arch", "largest"]) == 0
    out = capfd.readouterr().out
    assert "always predicting the largest class: top-1 1" in out
    assert "; balanced accuracy " in out
    fleet = read_json(run_copy / "fleet.json")
    del fleet["devices"]["board"]["row"]["between"]  # an older file
    (run_copy / "fleet.json").write_text(json.dumps(fleet))
    assert run([*options, "--json"]) == 1
    assert json.loads(capfd.readouterr().out)[0]["interval"] is not None
    (run_copy / "fleet.json").write_text("{}")
    assert run(["status", str(run_copy)]) == 0
    assert "fleet.json" in capfd.readouterr().out


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "not YAML": (lambda text: "devices: [", "not YAML"),
    "no list": (lambda text: "phones: 3", "no list of devices"),
    "no name": (lambda text: text.replace("name: board", "title: board"), "device 1: it has no name"),
    "twice": (lambda text: text.replace("phone", "board"), "two devices are called board"),
    "unknown": (lambda text: text.replace("macs", "flops"), "phone: unknown flops: use name, device, latency"),
    "no limit": (lambda text: text.replace("params: 1M", ""), "board: no limit: give one of latency, macs"),
    "no number": (lambda text: text.replace("1M", "much"), "board: 'much': a number such as 300M"),
    "no share": (lambda text: text.replace("5%", "500%"), "board: accuracy: '500%': a share such as 0.9 or 90 %"),
    "no such precision": (lambda text: text.replace("params: 1M", "params: 1M\n  precision: int4"), "board: precision: 'int4'"),
    "no int8 there": (
        lambda text: text.replace("params: 1M", "params: 1M\n  device: pytorch\n  precision: int8"),
        "board: precision: pytorch does not run int8: use one of onnxruntime, openvino, or leave it out",
    ),
    "no int8 file": (
        lambda text: text.replace("device: cpu", "precision: int8"),
        "phone: precision: int8, but export has no onnx-int8: add it, or leave export out",
    ),
    "int8 and float32": (
        lambda text: text.replace("device: cpu", "device: openvino-int8\n  precision: float32"),
        "phone: precision: float32, but openvino-int8 is int8: leave one of them out",
    ),
    "imported times": (
        lambda text: text.replace("device: cpu", "device: imported@phone\n  precision: int8"),
        "phone: precision: imported@phone has imported times, of unknown precision: leave it out",
    ),
    "metrics": (lambda text: text.replace("5%", "5%\n  metric: [top1]"), r"board: metric: \['top1'\]: choose from top1, balanced"),
    "no such day": (lambda text: text.replace("1M", "2026-13-45"), r"devices\.yaml: not YAML \(month must be"),
    "very deep": (lambda text: "devices: " + "[" * 5000, r"devices\.yaml: not YAML \("),
    "no such metric": (lambda text: text.replace("5%", "5%\n  metric: f1"), "board: metric: 'f1': choose from top1, balanced"),
    "no such device": (lambda text: text.replace("device: cpu", "device: cpux"), "phone: unknown runtime 'cpux'"),
    "a path": (lambda text: text.replace("board", "../board"), "the name is used for a folder"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, what: str) -> None:
    change, message = WRONG[what]
    (tmp_path / "devices.yaml").write_text(change(GOOD))
    with pytest.raises(FileError, match=message):
        read_fleet(tmp_path / "devices.yaml")


def test_options_that_the_file_has(measured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "devices.yaml").write_text(GOOD)
    assert run(["specialise", str(measured), "--fleet", str(tmp_path / "devices.yaml"), "--macs", "1M"]) == 2
    assert "has devices, limits and formats: leave these options out" in capfd.readouterr().err


@pytest.fixture(scope="module")
def exports(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks."""
    folder = tmp_path_factory.mktemp("exports")
    copy = str(shutil.copytree(measured, folder / "run"))
    for name, limit in (("small", ["--params", "21k"]), ("large", ["--no-limit"])):
        assert run(["specialise", copy, *limit, "--finalists", "1", "--out", str(folder / name)]) == 0
    return folder


def test_exported_networks_on_images(exports: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small, large = (str(next((exports / name).iterdir())) for name in ("small", "large"))
    capfd.readouterr()
    assert run(["evaluate", small, "digits", "--against", large, "--by-class"]) == 0
    out, _ = capfd.readouterr()
    assert f"{small}: top-1 " in out
    assert out.count("  class ") == 2
    assert "(McNemar)" in out
    assert run(["evaluate", small, "digits", "--against", small]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == f"{small} and {small} are the same network"
    assert run(["evaluate", small, "digits", "--json", "--split", "all"]) == 0
    (record,) = json.loads(capfd.readouterr().out)
    assert record["images"] == 1797
    assert sum(map(sum, record["confusion"])) == 1797
    assert [row["name"] for row in record["classes"]] == [str(i) for i in range(10)]
    for given in (["--arch", "smallest"], ["--device", "cpu"], ["--seed", "1"]):
        assert run(["evaluate", small, "digits", *given]) == 1
        assert "apply to runs only" in capfd.readouterr().err
    assert run(["evaluate", small]) == 1
    assert "is an exported network, which has no images of its own: give labeled images: ofa evaluate" in capfd.readouterr().err


def test_sub_networks_against_each_other(run_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(run_copy), "--arch", "largest", "--against", "smallest", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["name"] for row in found["networks"]] == ["largest", "smallest"]
    difference = found["difference"]
    assert difference["low"] <= difference["top1"] <= difference["high"]
    assert 0 < difference["chance"] <= 1
    top1 = [row["top1"] for row in found["networks"]]
    assert difference["top1"] == pytest.approx(top1[0] - top1[1])
    assert list(map(len, difference["alone"])) == [difference["gained"], difference["lost"]]
    assert run(["evaluate", str(run_copy), "--arch", "largest", "--against", "smallest"]) == 0
    out = capfd.readouterr().out
    for name, alone in zip(("largest", "smallest"), difference["alone"], strict=True):
        assert (f"  {name} alone is right on, for example: {', '.join(alone[:5])}" in out.splitlines()) == bool(alone)
    assert difference["score"] is None  # top-1 says it all
    edited(run_copy / "run.json", lambda data: data.update(metric="balanced"))
    assert run(["evaluate", str(run_copy), "--arch", "largest", "--against", "smallest"]) == 0
    assert re.search(r"\(McNemar\): [a-z ]+; balanced accuracy [+-]\d+\.\d\d points \[.*\]: ", capfd.readouterr().out)
    assert run(["evaluate", str(run_copy), "--arch", "largest", "--against", "smallest", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    balanced, score = [row["balanced"] for row in found["networks"]], found["difference"]["score"]
    assert score["difference"] == pytest.approx(balanced[0] - balanced[1])
    assert score["low"] < score["difference"] < score["high"]
    assert run(["evaluate", str(run_copy), "--arch", "largest", "--against", "largest"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "largest and largest are the same network"
    assert run(["evaluate", str(run_copy), "--arch", "random:2", "--against", "smallest"]) == 1
    assert "only two networks can be compared: give one each" in capfd.readouterr().err
    assert run(["evaluate", str(run_copy), "digits"]) == 1
    assert "a run has its own images: leave digits out" in capfd.readouterr().err


def test_what_is_missing_is_measured_first(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was only trained: profile and predictor are made on the way, and kept."""
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    monkeypatch.setattr("onceforall.pipeline.specialising.ready.SUBNETS", 16)
    monkeypatch.setattr(import_module("onceforall.pipeline.profile"), "Effort", lambda: FEW)  # the package's name is the function
    command = ["specialise", str(copy), "--latency", "1s", "--finalists", "1"]
    assert run(command) == 0
    err = capfd.readouterr().err
    assert f"cpu has not been profiled yet, which is done first and kept (ofa profile {copy} --device cpu)" in err
    assert f"no predictor of accuracy yet: 16 sub-networks are measured first, and the results kept (ofa predict {copy})" in err
    assert list(copy.glob("latency/*/table.json"))
    assert (copy / "accuracy" / "predictor.safetensors").exists()
    assert run([*command, "--latency", "1s,2s"]) == 0
    err = capfd.readouterr().err
    assert "not measured yet" not in err
    assert "onnxruntime-2000ms: same network as onnxruntime-1000ms" in err
