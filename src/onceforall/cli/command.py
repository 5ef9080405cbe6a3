"""A command of typer, made of the declaration of its arguments (`onceforall.options`) and the function that carries it out."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..options.declare import Flag, flags_of
from ..processors import cpu_quota
from . import completion

__all__ = ["Command", "command_of"]

Command = Callable[..., Any]


def command_of(kind: type | None, function: Command) -> Command:
    """What typer makes a command of.

    The function gets an object of the class `kind`, if there is one, whether the result is wanted as JSON, and what it declares
    itself, by keywords, as typer does. Before, a run directory is opened and all values are checked, as far as that needs no torch,
    which takes seconds to load; and the threads of the libraries that compute are fitted to a container's share of CPU time.
    """
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]

    def run(**given: Any) -> Any:
        rest = {parameter.name: given.pop(parameter.name) for parameter in own}
        as_json = given.pop("as_json")
        options = () if kind is None else (_made(kind, given),)
        if cpu_quota() is not None:
            from ..pipeline.environment import fit_threads

            fit_threads()
        return function(*options, as_json, **rest)

    told = [] if kind is None else _parameters(kind)
    told += [*own, _parameter("as_json", Flag("Print the result as JSON.", kind=bool, name="--json", default=False), bool)]
    run.__dict__["__signature__"] = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in told])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in told}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _made(kind: type, given: dict[str, Any]) -> Any:
    """The object that the values of a command line mean."""
    from ..pipeline import Run

    values = {
        name: value if flag.read is None or value is None else flag.read(value)
        for name, (_, flag) in flags_of(kind).items()
        for value in [given[name]]
    }
    made = {}
    for field in fields(kind):
        flags = field.metadata.get("flags", {})
        if "make" in field.metadata:
            made[field.name] = field.metadata["make"](**{name: values[name] for name in flags})
        elif flags:
            made[field.name] = field.default if values[field.name] is None else values[field.name]
    options = kind(**made)
    for name, (_, flag) in flags_of(kind).items():
        for folder in (values[name] if isinstance(values[name], list) else [values[name]]) if flag.opened else ():
            Run.open(folder)
    return options


def _parameters(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, localns={"OnnxOptions": Any})  # whose module loads torch
    rows = flags_of(kind).items()
    return [_parameter(name, flag, str if "make" in field.metadata else hints[name]) for name, (field, flag) in rows]


def _parameter(name: str, flag: Flag, hint: Any) -> inspect.Parameter:
    """As typer takes it."""
    kind = flag.kind or (str if flag.read is not None else _plain(hint))
    default = flag.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default)) or None
    if get_origin(kind) is list and default is not MISSING:
        default = None if default is None else [default]
    more: dict[str, Any] = {"metavar": flag.metavar, "help": flag.help}
    if flag.complete is not None:
        more["autocompletion"] = _COMPLETIONS.get(flag.complete) or completion.several_of(flag.complete[:-1])
    if flag.positional:
        info = typer.Argument(**more)
    else:
        info = typer.Option(flag.name or f"--{name.replace('_', '-')}", min=flag.least, max=flag.most, **more)
    annotation: Any = Annotated[kind if default is not None else kind | None, info]
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=empty if default is MISSING else default, annotation=annotation
    )


def _plain(hint: Any) -> Any:
    """The type without None."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if isinstance(hint, UnionType) else [hint]
    assert len(kinds) == 1, f"several types: {hint}"
    return kinds[0]


_COMPLETIONS: dict[str, Any] = {"run": completion.run_folders, "devices": completion.devices} | {
    kind: completion.one_of(kind) for kind in completion.VALUES
}
