"""Help fits a terminal and shows an example of every command."""

import inspect
import re

import pytest

from onceforall import pipeline
from onceforall.cli import app, run
from onceforall.cli.commands import evaluate, predict, profile, report, search, specialise, train
from onceforall.cli.published import export_original, import_original

COMMANDS = [
    "train",
    "evaluate",
    "profile",
    "predict",
    "search",
    "specialise",
    "report",
    "demo",
    "import",
    "export-original",
    "measure-accuracy",
    "measure",
    "devices",
]


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*arguments, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


@pytest.mark.parametrize(
    "command", ["", *COMMANDS, *(f"predictor {name}".strip() for name in ("", "fit", "compare", "show", "next"))]
)
def test_help_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    lines = help_of(capsys, monkeypatch, *command.split())
    assert len(lines) <= {"train": 32, "": 27}.get(command, 24) + 1  # the last one is empty
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert re.search(rf"Example: ofa {command or 'demo'}", text)
    assert "..." not in text.replace("COMMAND [ARGS]...", "")
    assert "…" not in text


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = help_of(capsys, monkeypatch)
    listed = lines[lines.index("Commands:") + 1 :]
    assert [line.split()[0] for line in listed[: len(COMMANDS)]] == COMMANDS
    assert all(line.rstrip().endswith(".") for line in listed[: len(COMMANDS)])
    assert [command.name or command.callback.__name__ for command in app.registered_commands if command.callback] == COMMANDS


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices"]) == 0
    assert "pytorch: 2." in capsys.readouterr().out
    assert run(["devices", "--json"]) == 0
    assert capsys.readouterr().out.startswith('[{"runtime": ')


@pytest.mark.parametrize(
    "command", [train, evaluate, profile, predict, search, specialise, report, import_original, export_original]
)
def test_defaults_are_those_of_the_function(command: object) -> None:
    assert callable(command)
    given = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    own = {name: p.default for name, p in inspect.signature(pipeline.__dict__[command.__name__]).parameters.items()}
    for name in given.keys() & own.keys() - {"export"}:
        assert given[name] == own[name], name
