"""Help fits a terminal and shows an example of every command."""

import inspect
import re
from typing import Any

import pytest

from onceforall import pipeline
from onceforall.cli import program, run
from onceforall.cli.commands import evaluate, predict, report, specialise, train
from onceforall.cli.own import elastic
from onceforall.cli.profile import profile
from onceforall.cli.published import export_original, import_original
from onceforall.cli.search import search

COMMANDS = {name: example for name, (_, example) in program.COMMANDS.items()}
BELOW = {f"predictor {name}": example for name, (_, example) in program.PREDICTOR.items()}
EXAMPLES = {"": "ofa demo", **COMMANDS, **BELOW}
SCREEN = 24  # lines of a terminal of 80 columns
MAIN_PATH = ["train", "evaluate", "profile", "predict", "search", "specialise", "report", "demo"]


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*arguments, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    lines = help_of(capsys, monkeypatch, *command.split())
    assert len(lines) < {"": SCREEN, "train": 43, "import": 30, "specialise": 36}.get(command, 27)
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert f"Example: {EXAMPLES[command]}" in " ".join(text.split())
    assert "..." not in re.sub(r"COMMAND \[ARGS\]\.\.\.|\{?(RUN|PHOTO)\}?\.\.\.", "", text)
    assert "…" not in text


@pytest.mark.parametrize("command", [name for name in [*COMMANDS, *BELOW] if name != "predictor"])
def test_every_result_is_there_for_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert any(line.split()[:1] == ["--json"] for line in help_of(capsys, monkeypatch, *command.split()))


@pytest.mark.parametrize(("command", "example"), [*COMMANDS.items(), *BELOW.items()])
def test_examples_are_command_lines(command: str, example: str) -> None:
    """Parsed, not carried out: names of options that do not exist fail."""
    first, _, _ = example.partition(" && ")
    words = first.split()
    assert words[: 1 + len(command.split())] == ["ofa", *command.split()] or command == "predictor"
    found: Any = program.ofa
    while words[1:] and words[1] in found.__dict__.get("commands", ()):
        found, words = found.commands[words[1]], words[1:]
    found.make_context(words[0], words[1:])


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = help_of(capsys, monkeypatch)
    assert len(lines) < SCREEN  # and the command line above
    (first,) = (i for i, line in enumerate(lines) if line.startswith("Commands, in the order of use"))
    listed = lines[first + 1 :][: len(COMMANDS)]
    names = [line.split()[0] for line in listed]
    assert names == list(COMMANDS)
    assert [name for name in names if name in MAIN_PATH] == MAIN_PATH
    assert all(line.rstrip().endswith(".") for line in listed)


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = help_of(capsys, monkeypatch)
    assert run([]) == 0
    assert capsys.readouterr().out.splitlines() == page


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices"]) == 0
    assert "pytorch: 2." in capsys.readouterr().out
    assert run(["devices", "--json"]) == 0
    assert capsys.readouterr().out.startswith('[{"runtime": ')


@pytest.mark.parametrize(
    "command", [train, elastic, evaluate, profile, predict, search, specialise, report, import_original, export_original]
)
def test_defaults_are_those_of_the_function(command: object) -> None:
    assert callable(command)
    given = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    own = {name: p.default for name, p in inspect.signature(getattr(pipeline, command.__name__)).parameters.items()}
    for name in given.keys() & own.keys() - {"export"}:
        assert given[name] == own[name], name
