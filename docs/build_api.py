"""API reference from the docstrings, to docs/api/; any warning is an error. Run by `make docs`."""

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path

from pdoc import doc, render

import onceforall


def build(target: Path) -> int:
    """Write a page for each module, an index and a search; return the number of pages."""
    found = [module.name for module in pkgutil.walk_packages(onceforall.__path__, "onceforall.")]
    for package in ("onceforall", *found):  # pdoc looks in modules only for what has been loaded
        for name in dir(module := importlib.import_module(package)) if package != "onceforall.__main__" else ():
            getattr(module, name)
    names = ["onceforall", *(name for name in found if not any(part.startswith("_") for part in name.split(".")))]
    modules = {name: doc.Module.from_name(name) for name in names}
    render.configure(docformat="google", footer_text=f"onceforall {onceforall.__version__}", show_source=False)
    for name, module in modules.items():
        page = target / f"{name.replace('.', '/')}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render.html_module(module, modules), encoding="utf-8")
    (target / "index.html").write_text(render.html_index(modules), encoding="utf-8")
    (target / "search.js").write_text(render.search_index(modules), encoding="utf-8")
    return len(modules)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "api"
    warnings.simplefilter("error")
    print(f"{build(place)} modules: {place / 'index.html'}")
