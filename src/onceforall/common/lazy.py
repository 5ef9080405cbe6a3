"""Packages that load a module when one of its names is first used, so that torch is loaded only when needed.

A package keeps its imports under `if TYPE_CHECKING:`, where type checkers and readers find them, and calls `load_on_use(__name__)`.
"""

import ast
import sys
from importlib import import_module
from importlib.abc import InspectLoader
from types import ModuleType
from typing import Any

from .memory import loading


class _LazyPackage(ModuleType):
    """A package whose attributes are imported on first use.

    If a function has the same name as its module, such as `pipeline.train.train`, the package's attribute is the function,
    whichever is imported first: Python binds a module in its package after loading it, which is ignored here.
    """

    _lazy_names: dict[str, tuple[str, str | None]]  # name -> module, and the name in it; None for the module itself

    def __getattr__(self, name: str) -> Any:
        if name not in self._lazy_names:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        source, own = self._lazy_names[name]
        with loading():
            module = import_module(source, self.__name__)
        value = self.__dict__[name] = module if own is None else getattr(module, own)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self._lazy_names and self._lazy_names[name][1] is not None):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._lazy_names})


def load_on_use(package: str) -> None:
    """Make a package that is being imported load its names under `if TYPE_CHECKING:` on first use."""
    module = sys.modules[package]
    assert module.__spec__ is not None
    assert isinstance(module.__spec__.loader, InspectLoader)
    tree = ast.parse(module.__spec__.loader.get_source(package) or "")
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    names: dict[str, tuple[str, str | None]] = {}
    for node in (node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)):
        for alias in node.names:
            source = "." * node.level + (node.module or alias.name)
            names[alias.asname or alias.name] = (source, alias.name if node.module else None)
    module.__dict__["_lazy_names"] = names
    module.__class__ = _LazyPackage
