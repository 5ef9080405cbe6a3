"""The declaration of a command's arguments: a frozen dataclass whose fields carry what the command line needs to know.

The command line is made from the fields (`cli/command.py`); the function of `onceforall.pipeline` takes an object of the class, or
its fields by their names (`common/arguments.py`); `ofa train` writes them into run.json and compares them on resume. Nothing here
loads torch, so wrong arguments are rejected at once.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Flag:
    """One argument of a command line.

    Args:
        help: description, short enough for a command's help to fit on a screen.
        metavar: placeholder of the value in the help; None for a switch.
        kind: the type that the command line reads; None for the field's own, without None.
        read: converts the text to the field's value; None if the type does.
        name: such as "--from", if it differs from the field's name.
        least: the smallest number allowed.
        most: the largest number allowed.
        complete: what the Tab key offers: a key of `VALUES` in cli/completion.py, with a trailing comma for lists.
        default: default value; `MISSING` if the option is required.
        positional: whether it is positional rather than an option.
        opened: whether it is a run directory, or several, to open before torch is loaded, so that a wrong path fails at once.
    """

    help: str
    metavar: str | None = None
    kind: Any = None
    read: Callable[[str], Any] | None = None
    name: str | None = None
    least: float | None = None
    most: float | None = None
    complete: str | None = None
    default: Any = None
    positional: bool = False
    opened: bool = False


def option(help: str, metavar: str | None = None, default: Any = None, **more: Any) -> Any:
    """A field for one option; `more` are fields of `Flag`."""
    flag = Flag(help, metavar, default=default, **more)
    value = {"default_factory": lambda: default} if isinstance(default, list) else {"default": default}
    return field(kw_only=True, metadata={"flags": {None: flag}}, **({} if default is MISSING else value))


def argument(help: str, metavar: str, default: Any = MISSING, **more: Any) -> Any:
    """A field for a positional argument."""
    value = {} if default is MISSING else {"default": default}
    return field(metadata={"flags": {None: Flag(help, metavar, default=default, positional=True, **more)}}, **value)


def group(default: Any, make: Callable[..., Any], flags: dict[str, Flag], *, positional: bool = False) -> Any:
    """A field that `make` computes from several options, passed by name; None for those not given."""
    return field(default=default, kw_only=not positional, metadata={"flags": flags, "make": make})


def flags_of(kind: type) -> dict[str, tuple[Field[Any], Flag]]:
    """The arguments of a command line by their parameter names."""
    return {name or f.name: (f, flag) for f in fields(kind) for name, flag in f.metadata.get("flags", {}).items()}
