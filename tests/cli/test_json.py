"""`--json` of every command: one JSON value, alone on standard output, whatever else is said on standard error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onceforall.cli import program, run
from tiny_original import NAME
from tiny_own import source
from tiny_run import SUBNETS, TRAINING_TEXT

# command: (arguments, what the JSON must have); RUN is a measured run, NEW a new folder
CASES: dict[str, tuple[list[str], Callable[[Any], bool]]] = {
    "train": (["digits", "--out", "NEW", *TRAINING_TEXT, "--epochs", "2"], lambda r: len(r["classes"]) == 10),
    "import": (["CHECKPOINT", "--name", NAME, "--out", "NEW"], lambda r: r["space"]["family"] == "mobilenet_v3"),
    "elastic": (["OWN", "--resolutions", "16,24"], lambda r: r["networks"] > 1 and r["network"]["source"] == "own.py:Net"),
    "evaluate": (["RUN", "--arch", "random:2"], lambda r: len(r) == 2 and 0 <= r[0]["top1"] <= 1),
    "profile": (["RUN", "--quick"], lambda r: r["mape"] >= 0 and r["device"].startswith("onnxruntime")),
    "predict": (["RUN", "--subnets", str(SUBNETS)], lambda r: r["fitted_on"] >= 12),
    "accuracy measure": (["RUN", "--subnets", "3"], lambda r: len(r) == 3 and "arch" in r[0]),
    "accuracy fit": (["RUN", "--kinds", "linear"], lambda r: r["kind"] == "linear"),
    "accuracy compare": (["RUN", "--samples", "12"], lambda r: {row["samples"] for row in r} == {12}),
    "accuracy show": (["RUN"], lambda r: r["fitted_on"] >= 12),
    "accuracy next": (["RUN", "--subnets", "2", "--out", "NEW"], lambda r: len(r) == 2),
    "search": (["RUN", "--params", "1M", "--finalists", "2"], lambda r: 1 <= len(r["finalists"]) <= 4),
    "specialise": (["RUN", "--params", "1M", "--finalists", "1", "--out", "NEW"], lambda r: len(r) == 1 and r[0]["files"]),
    "bundle": (["RUN", "--arch", "smallest,largest", "--out", "NEW"], lambda r: len(r["members"]) == 2),
    "classify": (["EXPORT", "PHOTO"], lambda r: len(r) == 1 and len(r[0]["classes"]) == 5),
    "report": (["RUN"], lambda r: Path(r["page"]).exists()),
    "status": (["RUN"], lambda r: r["parts"] and r["next"]),
    "devices": ([], lambda r: {"onnxruntime", "pytorch"} <= {device["runtime"] for device in r}),
    "measure": (["MODEL"], lambda r: r["latency"]["ms"] > 0),
    "export-original": (["RUN", "--out", "NEW"], lambda r: Path(r["path"]).exists()),
}
COMMANDS = {*program.COMMANDS, *(f"accuracy {name}" for name in program.ACCURACY)} - {"accuracy"}


def test_no_command_is_forgotten() -> None:
    # test_demo.py, test_compare.py; explore goes on until it is stopped: tests/app
    assert CASES.keys() | {"demo", "compare", "explore"} == COMMANDS


@pytest.fixture(scope="module")
def exported(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A specialised network's folder."""
    folder = tmp_path_factory.mktemp("exported")
    copy = shutil.copytree(measured, folder / "run")
    assert run(["specialise", str(copy), "--params", "1M", "--finalists", "1", "--out", str(folder / "networks")]) == 0
    return next((folder / "networks").glob("*/model.onnx")).parent


@pytest.mark.parametrize("command", CASES)
def test_json(
    capfd: pytest.CaptureFixture[str],
    run_copy: Path,
    checkpoint: Path,
    tmp_path: Path,
    command: str,
    request: pytest.FixtureRequest,
) -> None:
    given, right = CASES[command]
    places: dict[str, Path | str] = {
        "RUN": run_copy,
        "NEW": tmp_path / "new",
        "CHECKPOINT": checkpoint,
    }
    if "OWN" in given:
        places["OWN"] = source(tmp_path)
    if {"MODEL", "EXPORT"} & set(given):
        export: Path = request.getfixturevalue("exported")
        places |= {"MODEL": export / "model.onnx", "EXPORT": export, "PHOTO": tmp_path / "photo.png"}
        Image.new("RGB", (40, 30), "teal").save(places["PHOTO"])
        capfd.readouterr()
    code = run([*command.split(), *(str(places.get(argument, argument)) for argument in given), "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert right(json.loads(out)), out
    assert "ofa: " not in err
