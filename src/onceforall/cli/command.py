"""Make a typer command from the declaration of its arguments (`onceforall.options`) and the function that runs it."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..common.processors import cpu_quota
from ..options.declare import Flag, flags_of
from . import completion

Command = Callable[..., Any]


def command_of(kind: type | None, function: Command) -> Command:
    """A function for typer to make a command from.

    `function` gets an object of the class `kind`, if given; whether the result is wanted as JSON; and, as keywords, the arguments
    that it declares itself, each annotated with a type and a `Flag`. First all values are checked and run directories are opened,
    without loading torch, which takes seconds; and the thread counts of numerical libraries are limited to a container's share of
    CPU time.
    """
    hints = get_type_hints(function, include_extras=True)
    own = {
        name: (replace(get_args(hints[name])[1], default=MISSING if p.default is p.empty else p.default), get_args(hints[name])[0])
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    declared = {**({} if kind is None else _declared(kind)), **own}

    def run(**given: Any) -> Any:
        from ..pipeline import Run

        as_json = given.pop("as_json")
        read = {name: flag.read(given[name]) for name, (flag, _) in declared.items() if flag.read and given[name] is not None}
        values = given | read
        options = () if kind is None else (_made(kind, values),)
        for folder in (values[name] for name, (flag, _) in declared.items() if flag.opened):
            for each in folder if isinstance(folder, list) else [folder]:
                Run.open(each)
        if cpu_quota() is not None:
            from ..pipeline.run_directory.environment import fit_threads

            fit_threads()
        return function(*options, as_json, **{name: values[name] for name in own})

    parameters = [_parameter(name, *row) for name, row in declared.items()]
    parameters.append(_parameter("as_json", Flag("Print the result as JSON.", name="--json", default=False), bool))
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _declared(kind: type) -> dict[str, tuple[Flag, Any]]:
    """The arguments that a class declares, each with its type."""
    hints = get_type_hints(kind)
    return {name: (flag, str if "make" in field.metadata else hints[name]) for name, (field, flag) in flags_of(kind).items()}


def _made(kind: type, values: dict[str, Any]) -> Any:
    """The options object for the values of a command line."""
    made = {}
    for field in fields(kind):
        flags = field.metadata.get("flags", {})
        if "make" in field.metadata:
            made[field.name] = field.metadata["make"](**{name: values[name] for name in flags})
        elif flags:
            made[field.name] = field.default if values[field.name] is None else values[field.name]
    return kind(**made)


def _parameter(name: str, flag: Flag, hint: Any) -> inspect.Parameter:
    """The argument in typer's form."""
    kind = flag.kind or (str if flag.read is not None else _plain(hint))
    default = flag.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default)) or None
    if get_origin(kind) is list and default is not MISSING:
        default = None if default is None else [default]
    more: dict[str, Any] = {"metavar": flag.metavar, "help": flag.help}
    if flag.complete is not None:
        more["autocompletion"] = _COMPLETIONS.get(flag.complete) or completion.several_of(flag.complete[:-1])
    if kind in (Path, list[Path]) or (kind is str and flag.complete == "run"):
        more["parser"] = _path if kind is not str else _named
    if flag.positional:
        info = typer.Argument(**more)
    else:
        info = typer.Option(flag.name or f"--{name.replace('_', '-')}", min=flag.least, max=flag.most, **more)
    annotation: Any = Annotated[kind if default is not None else kind | None, info]
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=empty if default is MISSING else default, annotation=annotation
    )


def _named(text: str) -> str:
    """A path as text. An empty one, as from a variable that is not set, is an error: it would mean the working folder."""
    if not str(text).strip():
        raise typer.BadParameter("an empty path: give one, or . for this folder")
    return text


def _path(text: str | Path) -> Path:
    return Path(_named(str(text)))


def _plain(hint: Any) -> Any:
    """The type without None."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if isinstance(hint, UnionType) else [hint]
    assert len(kinds) == 1, f"several types: {hint}"
    return kinds[0]


_COMPLETIONS: dict[str, Any] = {"run": completion.run_folders, "devices": completion.device_texts} | {
    kind: completion.one_of(kind) for kind in completion.VALUES
}
