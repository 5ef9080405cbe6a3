"""Help fits a terminal and shows an example of every command."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.main import get_command

from onceforall.cli import command, program, run
from onceforall.common.arguments import takes
from onceforall.options.declare import Flag, argument, flags_of, group, option

COMMANDS = {
    name: "ofa accuracy measure run --subnets 2000" if isinstance(row, dict) else row[-1] for name, row in program.COMMANDS.items()
}
BELOW = {f"accuracy {name}": example for name, (*_, example) in program.ACCURACY.items()}
ALL = [*program.COMMANDS.values(), *program.ACCURACY.values()]
ROWS = [row for row in ALL if not isinstance(row, dict) and row[0] is not None]
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
    assert len(lines) < {"": SCREEN, "train": 53, "import": 40, "specialise": 37, "evaluate": 31}.get(command, 27)
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert f"Example: {EXAMPLES[command]}" in " ".join(text.split())
    assert "..." not in re.sub(r"COMMAND \[ARGS\]\.\.\.|\{?(RUN|PHOTO)\}?\.\.\.", "", text)
    assert "…" not in text


@pytest.mark.parametrize("command", [name for name in [*COMMANDS, *BELOW] if name != "accuracy"])
def test_every_result_is_there_for_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert any(line.split()[:1] == ["--json"] for line in help_of(capsys, monkeypatch, *command.split()))


@pytest.mark.parametrize(("command", "example"), [*COMMANDS.items(), *BELOW.items()])
def test_examples_are_command_lines(command: str, example: str) -> None:
    """Parsed, not carried out: names of options that do not exist fail."""
    first, _, _ = example.partition(" && ")
    words = first.split()
    assert words[: 1 + len(command.split())] == ["ofa", *command.split()] or command == "accuracy"
    found: Any = program.ofa
    while words[1:] and words[1] in found.__dict__.get("commands", ()):
        found, words = found.commands[words[1]], words[1:]
    found.make_context(words[0], words[1:])


EXAMPLE = re.compile(r"\b(?:e\.g\.|[Ss]uch as) '?([^\s']+?)'?[.,;:)]*(?:\s|$)")
READS = {f"--{name.replace('_', '-')}": flag for row in ROWS for name, (_, flag) in flags_of(row[0]).items() if flag.read}


@pytest.mark.parametrize("command", [name for name in [*COMMANDS, *BELOW] if name != "accuracy"])
def test_every_option_has_an_example(command: str) -> None:
    """Its help has a value that it takes, "e.g. VALUE" or "such as VALUE", unless it has a default, which is shown."""
    found: Any = program.ofa
    for word in command.split():
        found = found.commands[word]
    needed = ["a" for p in found.params if p.param_type_name == "argument" and p.required]
    needed += [word for p in found.params if p.param_type_name == "option" and p.required for word in (p.opts[0], "a")]
    for option_ in found.params:
        if option_.param_type_name == "argument" or option_.is_flag or option_.default not in (None, 0):
            continue
        example = EXAMPLE.search(option_.help)
        assert example or option_.opts[0] == "--seed", f"ofa {command} {option_.opts[0]}: {option_.help}"
        if example:
            found.make_context(command, [*needed, option_.opts[0], example[1]])
            if (flag := READS.get(option_.opts[0])) and flag.metavar != "FILE":
                flag.read(example[1])


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = help_of(capsys, monkeypatch)
    assert len(lines) < SCREEN  # and the command line above
    (first,) = (i for i, line in enumerate(lines) if line.startswith("Commands, in the order of use"))
    listed = lines[first + 1 :][: len(COMMANDS)]
    names = [line.split()[0] for line in listed]
    assert names == list(COMMANDS)
    assert [name for name in names if name in MAIN_PATH] == MAIN_PATH
    assert all(line.rstrip().endswith(".") for line in listed)


def test_other_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of earlier versions and of another spelling work, and are not listed."""
    assert not {*program.ALIASES} & {line.split()[0] for line in help_of(capsys, monkeypatch) if line.split()}
    for other, name in {
        "specialize": "specialise",
        "predictor fit": "accuracy fit",
        "measure-accuracy": "accuracy measure",
    }.items():
        (first, *rest), (_, *same) = (help_of(capsys, monkeypatch, *words.split()) for words in (other, name))
        assert rest == same
        assert first.startswith(f"Usage: ofa {other}")


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


@pytest.mark.parametrize(("kind", "function"), [row[:2] for row in ROWS], ids=[row[0].__name__ for row in ROWS])
def test_what_is_left_out_is_as_in_python(kind: Any, function: command.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line with nothing but what is required means an object of the class with nothing but that."""
    monkeypatch.setattr("onceforall.pipeline.run_directory.run.Run.open", lambda folder: None)
    made = command.command_of(kind, lambda o, as_json, **rest: o)
    parameters = inspect.signature(made).parameters.values()
    empty = inspect.Parameter.empty
    needed = {p.name: ["a"] if "list" in str(p.annotation) else "a" for p in parameters if p.default is empty}
    given = {p.name: needed.get(p.name, p.default) for p in parameters}
    fields = {field.name for field, _ in flags_of(kind).values() if field.name in needed}
    budgets = {} if kind.__name__ != "SpecialiseOptions" else {"budgets": ()}
    plain = kind(**{name: needed[name] for name in fields}, **budgets)
    found = made(**given)
    for name, value in vars(plain).items():
        own = vars(found)[name]
        alike = tuple(own) if isinstance(own, list) else own
        assert alike in (value, (value,)) or alike == tuple(value), name


@dataclass(frozen=True)
class Brewing:
    """Arguments of a command from outside the package."""

    leaves: str = argument("What goes in.", "LEAVES")
    minutes: float = option("How long.", "N", 3.0, least=0, name="--for")
    water: float = group(
        1.0, lambda cups, mugs: 0.2 * (cups or 0) + 0.3 * (mugs or 0), dict.fromkeys(("cups", "mugs"), Flag("How many.", "N", int))
    )


def test_a_command_from_outside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its declaration alone gives it options, help, completion and keywords in Python."""

    @takes(Brewing)
    def brew(options: Brewing, *, on_step: Any = print) -> float:
        on_step(options.leaves)
        return options.minutes * options.water

    assert brew("green", minutes=2.0, on_step=len) == brew(Brewing("green", minutes=2.0), on_step=len) == 2.0
    with pytest.raises(TypeError, match="seconds"):
        brew("green", seconds=2.0)
    assert list(inspect.signature(brew).parameters) == ["leaves", "minutes", "water", "on_step"]
    app = typer.Typer(rich_markup_mode=None)
    app.command("brew")(command.command_of(Brewing, lambda o, as_json: print(brew(o, on_step=lambda text: None))))
    app.command("wait")(command.command_of(None, lambda as_json: None))
    monkeypatch.setattr(program, "ofa", get_command(app))
    capsys.readouterr()
    assert run(["brew", "green", "--for", "2", "--cups", "5", "--mugs", "10"]) == 0
    assert capsys.readouterr().out == "8.0\n"
    assert run(["brew", "green", "--for", "-2"]) == 2
    capsys.readouterr()
    assert "--for N" in "\n".join(help_of(capsys, monkeypatch, "brew"))
