"""The house in numbers: how much there is to know in `src`.

    python .ci/house.py            print them
    python .ci/house.py --check    and fail if one is larger than .ci/house.json allows
    python .ci/house.py --lower    and write those that are smaller into .ci/house.json: they only go down

`make house` checks. A number may go up only by hand, in a commit that says why.
"""

import ast
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
ALLOWED = Path(__file__).with_name("house.json")
PARAMETERS, BODY, FILE, FOLDER, SAME = 10, 80, 500, 16, 6  # parameters, lines, lines, modules, lines

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Name, file and syntax tree of each module."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def public(tree: ast.Module) -> list[ast.ClassDef | Function]:
    return [n for n in tree.body if isinstance(n, ast.ClassDef | Function) and not n.name.startswith("_")]


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def needs(name: str, path: Path, tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of ours that a module imports, inside of functions too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            found |= {f"{source}.{a.name}" if f"{source}.{a.name}" in known else source for a in node.names}
    return (found & known) - {name}


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that need themselves by way of others."""
    reach = {name: set(others) for name, others in edges.items()}
    for middle in reach:
        for others in reach.values():
            if middle in others:
                others |= reach[middle]
    return sorted(name for name, others in reach.items() if name in others)


def same_lines() -> list[str]:
    """Pairs of places that share lines, by pylint (imports, docstrings and comments left out)."""
    command = [sys.executable, "-m", "pylint", "--disable=all", "--enable=duplicate-code", f"--min-similarity-lines={SAME}"]
    command += ["--ignore-imports=y", "--persistent=n", str(SRC / "onceforall")]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode & ~8:  # 8: it has found some
        raise SystemExit(f"pylint failed ({ran.returncode}): {ran.stderr.strip() or ran.stdout.strip()}")
    places = [line.removeprefix("==") for line in ran.stdout.splitlines() if line.startswith("==")]
    return [" ~ ".join(pair) for pair in zip(places[::2], places[1::2], strict=True)]


def numbers() -> dict[str, list[str]]:
    """What is counted, and where it is."""
    all_modules = modules()
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, list[str]] = defaultdict(list)
    folders: dict[Path, int] = defaultdict(int)
    for name, (path, tree) in all_modules.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        found["lines"] += [name] * len(lines)
        found["modules"].append(name)
        if len(lines) > FILE:
            found[f"files over {FILE} lines"].append(name)
        folders[path.parent] += path.name != "__init__.py"
        for node in public(tree):
            found["public classes"] += [f"{name}.{node.name}"] * isinstance(node, ast.ClassDef)
            names[node.name].append(f"{name}.{node.name}")
        for node in ast.walk(tree):
            if isinstance(node, Function):
                where = f"{name}.{node.name}:{node.lineno}"
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                found[f"functions over {PARAMETERS} parameters"] += [where] * (len(arguments) > PARAMETERS)
                found[f"functions over {BODY} lines"] += [where] * (node.end_lineno - node.lineno >= BODY)  # type: ignore[operator]
    found["names public in two modules"] = [", ".join(places) for places in names.values() if len(places) > 1]
    found[f"folders over {FOLDER} modules"] = [str(f.relative_to(SRC)) for f, n in folders.items() if n > FOLDER]
    known = set(all_modules)
    edges = {name: needs(name, path, tree, known) for name, (path, tree) in all_modules.items()}
    found["modules in import circles"] = circles({n: e for n, e in edges.items() if n != "onceforall"})
    found[f"pairs of places alike in {SAME} lines"] = same_lines()
    return found


def main() -> None:
    found = numbers()
    allowed = json.loads(ALLOWED.read_text(encoding="utf-8")) if ALLOWED.exists() else {}
    wrong = False
    for what, places in found.items():
        most = allowed.get(what)
        print(f"{len(places):6,}  {what}" + ("" if most is None else f" (at most {most:,})"))
        over = most is not None and len(places) > most
        wrong |= over
        if what not in ("lines", "modules", "public classes") and (over or "--where" in sys.argv):
            print("\n".join(f"          {place}" for place in places))
    if "--lower" in sys.argv:
        least = {what: min(len(places), allowed.get(what, len(places))) for what, places in found.items()}
        ALLOWED.write_text(json.dumps(least, indent=1) + "\n", encoding="utf-8")
    if wrong and "--check" in sys.argv:
        raise SystemExit("the house has grown: make it smaller, or raise the number in .ci/house.json and say why in the commit")


if __name__ == "__main__":
    main()
