"""What griffe does to the docstrings before the site shows them. mkdocs.yml names it.

Names of ours in backticks become links. Fields and attributes without a docstring of their own are left out, because the class says
what they are. The section `Example:` is called as griffe wants it.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe

NAME = re.compile(r"(?<![`\[])`([A-Za-z]\w*(?:\.\w+)*)((?:\([^`]*\))?)`(?![`\]])")


def pages() -> ModuleType:
    """The hook beside this file, which is no package."""
    spec = importlib.util.spec_from_file_location("pages", Path(__file__).with_name("pages.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Docstrings(griffe.Extension):
    """See above."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self.anchor = pages().anchor
        self._tidy(pkg)

    def _tidy(self, owner: griffe.Object) -> None:
        if owner.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", owner.docstring.value, flags=re.MULTILINE)
            owner.docstring.value = NAME.sub(lambda match: self._link(owner, match), text)
        for name, member in list(owner.members.items()):
            if member.is_alias:
                continue
            if member.is_attribute and owner.is_class and member.docstring is None and "property" not in member.labels:
                owner.del_member(name)
            else:
                self._tidy(member)

    def _link(self, owner: griffe.Object, match: re.Match[str]) -> str:
        name, _, rest = match[1].partition(".")
        if name == "onceforall":
            full = match[1]
        elif owner.is_function and name in {parameter.name for parameter in owner.parameters}:
            return match[0]
        else:
            try:
                full = ".".join(filter(None, (owner.resolve(name), rest)))
            except griffe.NameResolutionError:
                return match[0]
        found = self.anchor(full) if full.startswith("onceforall.") else None
        own = found is None or f"{owner.path}.".startswith(f"{found}.")
        shown = not own and not any(part.startswith("_") for part in found.split("."))
        return f"[`{match[1]}{match[2]}`][{found}]" if shown else match[0]
