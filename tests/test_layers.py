"""The architecture note's layer rule, read from the import statements themselves."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import pytest

import onceforall

ROOT = Path(onceforall.__file__).parent
LAYERS = {
    **dict.fromkeys(
        [
            "arch",
            "common",
            "costs",
            "errors",
            "genes",
            "graph",
            "looks",
            "ops",
            "picture",
            "plan",
            "preprocess",
            "resolutions",
            "scores",
            "space",
            "spaces",
            "structure",
        ],
        0,
    ),
    **dict.fromkeys(["nn", "reader", "search"], 1.0),
    **dict.fromkeys(["backends", "calibrate", "supernets", "published", "tasks"], 1.5),
    **dict.fromkeys(["train", "latency", "accuracy", "export", "data", "models"], 2),
    **dict.fromkeys(["options", "pipeline", "report"], 3),
    **dict.fromkeys(["cli", "app", "__main__"], 4),
}
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {path: ".".join(("onceforall", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for path in FILES}
MODULES = {name: path for path, name in NAMES.items()}
TORCH = {"torch", "torchvision"}


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "onceforall"


def imports(path: Path, *, at_import_only: bool = False) -> set[str]:
    """Modules that a file imports, absolute; those of ours as the module that holds the name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = NAMES[path] if path.name == "__init__.py" else NAMES[path].rpartition(".")[0]
    found: set[str] = set()
    for node in _nodes(tree, at_import_only):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            found |= {_home(source, a.name) for a in node.names}
    return found


def _home(source: str, name: str) -> str:
    """The module that a name is imported from, through packages that load modules on first use."""
    names = vars(import_module(source)).get("_lazy_names", {}) if source in MODULES else {}
    if name in names and names[name][1] is not None:
        return _home(resolve_name(names[name][0], source), name)
    return f"{source}.{name}" if f"{source}.{name}" in MODULES else source


def _nodes(tree: ast.AST, at_import_only: bool) -> list[ast.AST]:
    """All nodes, or only those that run when the module is imported (no functions, no TYPE_CHECKING)."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        lazy |= isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not (at_import_only and lazy):
            nodes += [child, *_nodes(child, at_import_only)]
    return nodes


def ours(path: Path, *, at_import_only: bool = False) -> set[str]:
    return {name for name in imports(path, at_import_only=at_import_only) if name.split(".")[0] == "onceforall"}


def test_every_part_has_a_layer() -> None:
    parts = {part(name) for name in NAMES.values()} - {"onceforall"}
    assert parts <= set(LAYERS), f"give {parts - set(LAYERS)} a layer in tests/test_layers.py"


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_imports_point_downwards(path: Path) -> None:
    own = part(NAMES[path])
    if own == "onceforall":  # the package itself only hands out names
        return
    for name in ours(path):
        other = part(name)
        assert other != "onceforall", f"{NAMES[path]} imports the package itself: import from the module that defines the name"
        below = LAYERS[other] < LAYERS[own] or (LAYERS[other] == LAYERS[own] and LAYERS[own] != 2)
        assert other == own or below, f"{NAMES[path]} (layer {LAYERS[own]}) must not import {name} (layer {LAYERS[other]})"


@pytest.mark.parametrize("path", [p for p in FILES if LAYERS.get(part(NAMES[p]), 0) == 0], ids=NAMES.get)
def test_layer_0_knows_no_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & TORCH


@pytest.mark.parametrize(
    "names", ["onceforall", "onceforall.cli.program, onceforall.pipeline.status", "onceforall.options.presets"]
)
def test_what_starts_without_torch(names: str) -> None:
    """Torch takes seconds to load, which help, status and refusals must not."""
    code = f"import sys, {names}; print(*sorted({TORCH} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip(), f"{names} load {done.stdout}"


@pytest.mark.parametrize("package", [name for name in LAYERS if (ROOT / name).is_dir()])
def test_the_picture_shows_it_in_its_layer(package: str) -> None:
    picture = (ROOT.parents[1] / "docs/images/layers.svg").read_text(encoding="utf-8")
    described = re.search(r"<desc.*?</desc>", picture)
    assert described is not None
    assert re.search(rf"Layer {int(LAYERS[package])}\b[^.]*\b{package}\b", described[0])
    assert re.search(rf">[^<]*\b{package}/", picture), "it is described, and not drawn"


def test_no_import_cycles() -> None:
    edges = {name: {n for n in ours(path, at_import_only=True) if n in MODULES and n != name} for name, path in MODULES.items()}
    while leaves := [name for name, needs in edges.items() if not needs]:
        for leaf in leaves:
            del edges[leaf]
        for needs in edges.values():
            needs.difference_update(leaves)
    assert not edges, f"import cycle among {sorted(edges)}"


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_files_are_short_and_shallow(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    assert len(path.relative_to(ROOT).parents) <= 4, "folders are at most three deep"


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_modules_say_what_they_are_and_packages_what_they_offer(path: Path) -> None:
    """Public is what has no underscore; `__all__` stands in packages only. Ruff sees that public names have docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{NAMES[path]} has no docstring"
    listed = any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__" for n in tree.body)
    imports_names = any(isinstance(n, ast.ImportFrom | ast.If) for n in tree.body)
    if path.name != "__init__.py":
        assert not listed, f"{NAMES[path]}: __all__ is for packages"
    else:
        assert listed or not imports_names, f"{NAMES[path]} hands out names and has no __all__"


@pytest.mark.parametrize("path", [p for p in FILES if part(NAMES[p]) != "__main__"], ids=NAMES.get)
def test_everything_in_all_exists(path: Path) -> None:
    module = import_module(NAMES[path])
    if "__all__" in vars(module):
        for name in module.__all__:
            assert name in dir(module)


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_no_guessing_and_no_global_randomness(path: Path) -> None:
    """Style rules 4 and 6; torch's own generator may be seeded inside `fork_rng`, which puts it back."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    forks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "fork_rng" in ast.unparse(n.items[0])]
    forked = {id(inner) for fork in forks for inner in ast.walk(fork)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in forked:
            called = ast.unparse(node.func)
            assert called not in {"hasattr", "np.random.seed", "random.seed", "torch.manual_seed"}, f"{called} in {NAMES[path]}"
            assert not (called == "getattr" and len(node.args) > 2), f"getattr with a default in {NAMES[path]}"


def test_names_of_test_files_are_unique() -> None:
    """The folders of tests are no packages, so that of two modules of one name pytest refuses the second."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
