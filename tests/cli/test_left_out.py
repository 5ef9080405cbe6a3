"""An int8 file that loses too much is left out, the others go home, and the command fails in the end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from onceforall.backends.common import Function, OnHost
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.export import FORMATS


def test_int8_that_loses_too_much(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_copy: Path, tmp_path: Path
) -> None:
    """The file of this format is proven once, and answers with the least likely class from then on."""
    runtime, loaded = FORMATS["onnx-int8"].runtime, list[Function]()

    def opened(model: Path, *, threads: int, shape: tuple[int, ...] | None) -> Function:
        found = runtime.open(model, threads=threads, shape=shape)
        loaded.append(found)
        return found if len(loaded) == 1 else OnHost(lambda images: -found(images))

    monkeypatch.setitem(FORMATS, "worse-int8", replace(FORMATS["onnx-int8"], runtime=replace(runtime, open=opened)))
    given = [
        "specialise",
        str(run_copy),
        "--params",
        "1M",
        "--finalists",
        "1",
        "--out",
        str(tmp_path),
        "--export",
        "onnx,worse-int8",
    ]
    code = run([*given, "--max-drop", "0", "--json"])
    out, err = capfd.readouterr()
    (result,) = json.loads(out)
    folder = Path(result["folder"])
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "weights.safetensors", "README.md"}
    assert not (folder / "model.int8.onnx").exists()
    assert [row["format"] for row in result["files"]] == ["pytorch", "onnx"]
    why = result["left_out"]["worse-int8"]
    assert "points of top-1 on 10 held-out images" in why
    assert read_json(run_copy / "specialised" / f"{folder.name}.json")["left_out"] == {"worse-int8": why}
    card = (folder / "README.md").read_text()
    assert "\nWithout model.int8.onnx: int8 loses " in card
    assert code == 1
    assert err.splitlines()[-1] == f"ofa: {folder} has no worse-int8: {why}"
