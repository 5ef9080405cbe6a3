"""The Tab key, by the protocol that shells speak: commands, run directories, and values of options."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onceforall.accuracy.choose import LEARNERS
from onceforall.backends import RUNTIMES
from onceforall.cli import program, run
from onceforall.cli.completion import VALUES
from onceforall.export import FORMATS
from onceforall.pipeline import PRESETS
from onceforall.pipeline.evaluate import choose_archs
from onceforall.pipeline.training.compute import choose_compute
from onceforall.published.weights import NAMES
from onceforall.train import SCHEMES
from onceforall.train.step import PRECISIONS
from small_spaces import SPACES

PROGRAM = "import sys; from onceforall.cli import main; main()"


def offered(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, shell: str = "bash") -> list[str]:
    """What is offered at the end of a command line, after a blank for a new word."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_OFA_COMPLETE", f"complete_{shell}")
    with pytest.raises(SystemExit) as left:
        run([])
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_values_are_those_of_the_registries() -> None:
    registries = {
        "preset": PRESETS, "scheme": SCHEMES, "runtime": RUNTIMES, "format": FORMATS, "kind": LEARNERS, "original": NAMES,
        "precision": PRECISIONS,
    }  # fmt: skip
    for kind, registry in registries.items():
        assert tuple(VALUES[kind]) == tuple(registry), f"write the keys down in VALUES of cli/completion.py: {kind}"
    space = next(iter(SPACES.values()))
    for text in VALUES["arch"]:
        assert choose_archs(space, text, 0)
    assert choose_compute("auto").device.type in VALUES["compute"]


def test_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(capsys, monkeypatch, "ofa ") == list(program.COMMANDS)
    assert offered(capsys, monkeypatch, "ofa pre") == ["predict"]
    assert offered(capsys, monkeypatch, "ofa accuracy ") == list(program.ACCURACY)
    assert offered(capsys, monkeypatch, "ofa evaluate run --sp") == ["--split"]
    assert offered(capsys, monkeypatch, "ofa --help ") == list(program.COMMANDS)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("ofa train photos --preset im", ["imagenette-60m", "imagenette-gpu", "imagenet-ofa", "imagenet-alphanet"]),
        ("ofa train photos --scheme s", ["single_path", "sandwich"]),
        ("ofa train photos --precision ", ["float32", "bfloat16"]),
        ("ofa train photos --device c", ["cpu", "cuda"]),
        ("ofa evaluate run --split ", ["held-out", "test"]),
        ("ofa evaluate run --arch ", ["largest", "smallest", "random:16"]),
        ("ofa specialise run --export onnx,open", ["onnx,openvino", "onnx,openvino-int8"]),
        ("ofa profile mobilenet_v3 --device openvino", ["openvino", "openvino-int8"]),
        ("ofa accuracy fit run --kinds pairwise,l", ["pairwise,linear"]),
        ("ofa import net.pth --name ofa_r", ["ofa_resnet50"]),
        ("ofa measure model.onnx --device t", ["tensorrt"]),
    ],
)
def test_values(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, values: list[str]) -> None:
    assert offered(capsys, monkeypatch, line) == values


def test_run_folders(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cats", "old/dogs", "old/far/below", ".hidden", "my cats", "a;b", "a&b", "a(b)", "a|b", "no-run"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / ("run.json" if name != "no-run" else "other.json")).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert offered(capsys, monkeypatch, "ofa evaluate ") == ["cats", "old/dogs"]
    assert offered(capsys, monkeypatch, "ofa status old/") == ["old/dogs", "old/far/below"]
    assert offered(capsys, monkeypatch, "ofa accuracy show c") == ["cats"]
    assert offered(capsys, monkeypatch, "ofa search .h") == [".hidden"]
    assert offered(capsys, monkeypatch, "ofa search none/") == [""]  # then shells offer files
    assert offered(capsys, monkeypatch, f"ofa report {tmp_path}/c") == [f"{tmp_path}/cats"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_measured_devices_come_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_copy: Path, shell: str
) -> None:
    table = run_copy / "latency" / "onnxruntime-threads1-batch1" / "table.json"
    other = run_copy / "latency" / "other" / "table.json"
    other.parent.mkdir()
    other.write_text(table.read_text().replace('"threads": 1', '"threads": 2').replace('"host": null', '"host": "ssh://pi@board"'))
    (run_copy / "latency" / "torn").mkdir()
    (run_copy / "latency" / "torn" / "table.json").write_text("{")
    line = f"ofa search {run_copy} --latency 5ms --device "
    first, second, *others = offered(capsys, monkeypatch, line, shell)
    assert "onnxruntime" in first
    assert r"onnxruntime:threads=2@ssh://pi@board" in second.replace("\\", "")
    assert len(others) == len(RUNTIMES) - 1
    if shell != "bash":
        assert "measured" in first
        assert "runtime" in others[0]


def test_in_a_real_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    ofa = tmp_path / "ofa"
    ofa.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{PROGRAM}" "$@"\n')
    ofa.chmod(0o755)
    script = """
eval "$(_OFA_COMPLETE=source_bash ofa)"
complete -p ofa
COMP_WORDS=(ofa train digits --scheme s); COMP_CWORD=4
_ofa_completion ofa
printf '%s\\n' "${COMPREPLY[@]}"
"""
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["complete -o default -F _ofa_completion ofa", "single_path", "sandwich"]


def test_help_and_completion_load_little() -> None:
    """Torch takes seconds; this keeps `ofa --help`, each command's help and the Tab key fast without a timing assertion."""
    code = """
import contextlib, io, os, sys
from onceforall.cli import run
from onceforall.cli.program import COMMANDS
with contextlib.redirect_stdout(io.StringIO()):
    for command in ["", *COMMANDS]:
        assert run([*command.split(), "--help"]) == 0
os.environ |= {"COMP_WORDS": "ofa search run --device ", "COMP_CWORD": "4", "_OFA_COMPLETE": "complete_bash"}
try:
    run([])
except SystemExit:
    print(*{name.split(".")[0] for name in sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert loaded[: len(RUNTIMES)] == list(RUNTIMES)  # what was offered
    heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "pyarrow", "PIL", "onnx", "safetensors"}
    assert not heavy & set(loaded[len(RUNTIMES) :])
