"""`FILE.py:FUNCTION`: load a network by executing the user's own code."""

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
from .parts import FORM, RANDOM, Maker, Request, Weights, some_of

CLASSES = 1000  # for a function that requires a number of classes


def split_source(text: str) -> tuple[str, str]:
    """Split a text into file and function."""
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        hint = f"did you mean {some_of(near)}?" if (near := _meant(text)) else FORM
        raise ModelError(f"{text!r} names no network: {hint}")
    return file, name


def _meant(text: str) -> list[str]:
    """Similar valid texts: with .py added, or with the functions and classes of the file, which is not executed."""
    file, _, name = text.partition(":")
    if not file.endswith(".py"):
        return [f"{file}.py:{name}"] if name.isidentifier() and expanded(f"{file}.py").is_file() else []
    try:
        body = ast.parse(expanded(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [f"{file}:{node.name}" for node in body if _is_callable(node)]


def _is_callable(node: ast.AST, first: int = 0) -> TypeGuard[ast.FunctionDef | ast.ClassDef]:
    """Whether a function or class can be called with at most num_classes; the `first` arguments (self) are always passed."""
    if isinstance(node, ast.ClassDef):
        inits = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        return node.name[0] != "_" and all(_is_callable(init, 1) for init in inits)
    if not isinstance(node, ast.FunctionDef) or (node.name[0] == "_" and not first):
        return False
    given = [*node.args.posonlyargs, *node.args.args]
    needed = given[first : len(given) - len(node.args.defaults)]
    needed += [arg for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None]
    return all(arg.arg == "num_classes" for arg in needed)


def of_file(request: Request) -> Maker:
    """The network made by a function or class of the file.

    Raises:
        ModelError: the code fails, does not return a network, or needs more than a number of classes.
        FileError: there is no such file.
    """
    file, name = split_source(request.text)
    path = expanded(file).resolve()
    if not path.is_file():
        raise FileError(f"{file}: no such file: {FORM}")
    source = f"{path.name}:{name}"
    if request.weights == RANDOM:
        raise ModelError(f"{source} decides on its weights itself: omit --weights {RANDOM}")
    with _code_of(path, source):
        module = _loaded(path)
    function = vars(module).get(name)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(name, own, 3, 0.5) or own
        raise ModelError(f"{file} has no function or class {name!r}: {f'it has {some_of(near)}' if near else FORM}")
    try:
        takes = inspect.signature(function).parameters
    except (TypeError, ValueError):  # implemented in C
        takes = inspect.signature(lambda: None).parameters
    needed = [
        p.name
        for p in takes.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if extra := [parameter for parameter in needed if parameter != "num_classes"]:
        raise ModelError(
            f"{source} needs {', '.join(extra)}, but is called with no arguments other than num_classes: write a function that "
            "calls it and returns the network"
        )

    def make(classes: int | None) -> nn.Module:
        if classes is None and "num_classes" in needed:
            classes = CLASSES
        with _code_of(path, source):
            made = function() if classes is None else function(num_classes=classes)
        if not isinstance(made, nn.Module):
            raise ModelError(f"{source} returns a value of type {type(made).__name__}: it must return a torch.nn.Module")
        return made

    return Maker(source, make, "num_classes" in takes, Weights(None, ""), pixels=None)


def _loaded(path: Path) -> ModuleType:
    """Load a file as a module, registered under a name of its own, since dataclasses look up their module."""
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
    """Context for running the file's code, which may import files next to it; its errors become a one-line `ModelError`."""
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
