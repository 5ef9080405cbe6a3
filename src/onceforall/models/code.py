"""`FILE.py:FUNCTION`: a network made by the user's own code, which is executed."""

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from torch import nn

from ..common.packages import one_line
from ..common.places import expanded
from ..errors import FileError, ModelError
from .parts import FORM, RANDOM, Asked, Maker, Weights, some_of

CLASSES = 1000  # for a function that requires a number of classes


def divided(text: str) -> tuple[str, str]:
    """Split a text into file and function."""
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        hint = f"did you mean {some_of(near)}?" if (near := _meant(text)) else FORM
        raise ModelError(f"{text!r} names no network: {hint}")
    return file, name


def _meant(text: str) -> list[str]:
    """Texts that may have been meant: with .py, or with the functions and classes of a file, which is not run."""
    file, _, name = text.partition(":")
    if not file.endswith(".py"):
        return [f"{file}.py:{name}"] if name.isidentifier() and expanded(f"{file}.py").is_file() else []
    try:
        body = ast.parse(expanded(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [f"{file}:{node.name}" for node in body if _makes_one(node)]


def _makes_one(node: ast.AST, first: int = 0) -> TypeGuard[ast.FunctionDef | ast.ClassDef]:
    """Whether a function or class can be called as it will be; `first` arguments are given anyway."""
    if isinstance(node, ast.ClassDef):
        inits = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        return node.name[0] != "_" and all(_makes_one(init, 1) for init in inits)
    if not isinstance(node, ast.FunctionDef) or (node.name[0] == "_" and not first):
        return False
    given = [*node.args.posonlyargs, *node.args.args]
    needed = given[first : len(given) - len(node.args.defaults)]
    needed += [one for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None]
    return all(one.arg == "num_classes" for one in needed)


def of_file(asked: Asked) -> Maker:
    """The network made by a function or class of the file.

    Raises:
        ModelError: the code fails, does not return a network, or needs more than a number of classes.
        FileError: there is no such file.
    """
    file, name = divided(asked.text)
    path = expanded(file).resolve()
    if not path.is_file():
        raise FileError(f"{file}: no such file: {FORM}")
    source = f"{path.name}:{name}"
    if asked.weights == RANDOM:
        raise ModelError(f"{source}: its weights are those that it returns: leave --weights {RANDOM} out")
    with _code_of(path, source):
        module = _loaded(path)
    function = vars(module).get(name)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(name, own, 3, 0.5) or own
        raise ModelError(f"{file} has no function or class {name!r}: {f'it has {some_of(near)}' if near else FORM}")
    try:
        takes = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of C
        takes = inspect.signature(lambda: None).parameters
    needed = [
        p.name
        for p in takes.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if extra := [parameter for parameter in needed if parameter != "num_classes"]:
        raise ModelError(
            f"{source} needs {', '.join(extra)}, and is called without arguments but num_classes: write a function around it that "
            "returns the network"
        )

    def make(classes: int | None) -> nn.Module:
        if classes is None and "num_classes" in needed:
            classes = CLASSES
        with _code_of(path, source):
            made = function() if classes is None else function(num_classes=classes)
        if not isinstance(made, nn.Module):
            raise ModelError(f"{source} returns something of type {type(made).__name__}, not a torch.nn.Module")
        return made

    return Maker(source, make, "num_classes" in takes, Weights(None, ""), pixels=None)


def _loaded(path: Path) -> ModuleType:
    """Load a file as a module. It is registered under a separate name, since dataclasses look up their module."""
    name = f"onceforall_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _code_of(path: Path, source: str) -> Iterator[None]:
    """Context for running the file's code, which may import files next to it; a `ModelError` has its errors in one line."""
    sys.path.insert(0, str(path.parent))
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            yield
    except (Exception, SystemExit) as error:
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else places[-1].lineno if places else None
        where = "" if line is None else f" (line {line})"
        raise ModelError(f"{source} fails{where}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
