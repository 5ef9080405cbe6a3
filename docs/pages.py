"""Pages of the site that are no files in docs/: README.md and the like, and one for each module. A hook of mkdocs, see mkdocs.yml.

Nothing is imported: what a package hands out is read from its source, so the site needs neither torch nor the package installed.
"""

import ast
import posixpath
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS, SRC = ROOT / "docs", ROOT / "src"
OUTSIDE = {  # files of the repository, and what they are called in the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r'(?<=\]\()(?![a-z]+:)([^)#\s]+)|(?<=<img src=")([^"]+)')
FILE_NAME = re.compile(r"\[((?:[\w-]+/)*[\w-]+\.md)\](?=\(([^)#\s]+))")  # as the words of a link
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?<![`\[])`(onceforall(?:\.\w+)+)((?:\([^`]*\))?)`(?!\])")


@cache
def modules() -> dict[str, Path]:
    """Public modules by name."""
    found = {}
    for path in sorted((SRC / "onceforall").rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        if not any(part.startswith("_") for part in name.split(".")):
            found[name] = path
    return found


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def handed_out(module: str) -> dict[str, str]:
    """Names that a module imports from modules of ours, also those for type checkers only, and where each comes from."""
    parts = module.split(".") if modules()[module].name == "__init__.py" else module.split(".")[:-1]
    blocks = [node.body for node in tree_of(module).body if isinstance(node, ast.If)]
    found = {}
    for node in [*tree_of(module).body, *(node for block in blocks for node in block)]:
        if isinstance(node, ast.ImportFrom) and node.level:
            source = ".".join(filter(None, (*parts[: len(parts) + 1 - node.level], node.module)))
            found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
    return found


def home(name: str) -> str | None:
    """Where the thing of this name is defined, such as onceforall.pipeline.train.train; None if there is none."""
    module, _, last = name.rpartition(".")
    if module in modules():
        if handed_out(module).get(last, name) != name:  # a module that is handed out is its own home
            return home(handed_out(module)[last])
        if last in defined(tree_of(module).body):
            return name
    elif module and (owner := home(module)) is not None and owner not in modules():
        return f"{owner}.{last}" if last in defined(body_of(owner)) else None
    return name if name in modules() else None


def anchor(name: str) -> str | None:
    """Where the site tells about it: a field stands with its class."""
    found = home(name)
    if found is None or found in modules():
        return found
    owner, _, last = found.rpartition(".")
    return owner if isinstance(defined(body_of(owner)).get(last), ast.Assign | ast.AnnAssign) else found


def body_of(owner: str) -> list[ast.stmt]:
    """What is in a class."""
    module, _, name = owner.rpartition(".")
    node = defined(tree_of(module).body).get(name) if module in modules() else None
    return node.body if isinstance(node, ast.ClassDef) else []


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Functions, classes and variables."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def what(name: str) -> str:
    """The first line of a docstring."""
    if name in modules():
        text = ast.get_docstring(tree_of(name))
    else:
        module, _, last = name.rpartition(".")
        node = defined(tree_of(module).body)[last]
        text = None if isinstance(node, ast.Assign | ast.AnnAssign) else ast.get_docstring(node)
    return (text or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def page_of(module: str) -> str:
    """A module's page in the site."""
    below = module.split(".")[1:]
    is_package = modules()[module].name == "__init__.py"
    return "/".join(("api", *below, "index.md") if is_package else ("api", *below)) + ("" if is_package else ".md")


def below(package: str) -> list[str]:
    return [name for name in modules() if name.rpartition(".")[0] == package]


def text_of(module: str) -> str:
    """The page: what a package hands out and its modules as tables, of a module all that is in it."""
    lines = [f"---\ntitle: {module}\nsearch:\n  boost: 0.3\n---\n", f"::: {module}"]  # in a search, after what people wrote
    if modules()[module].name == "__init__.py":
        own = defined(tree_of(module).body)
        shown = [name for name in own if not name.startswith("_")]
        lines.append(f"    options: {{members: {shown or 'false'}}}")
        listed = own.get("__all__")
        names = ast.literal_eval(listed.value) if isinstance(listed, ast.Assign) else ()
        found = {name: home(f"{module}.{name}") for name in names if not name.startswith("_")}
        rows = [f"| [`{name}`][{at}] | {what(at)} |" for name, at in found.items() if at is not None and at not in modules()]
        if rows:
            lines += ["", "## Names", "", "| name | what it is |", "|---|---|", *rows]
        if modules_below := below(module):
            start = posixpath.dirname(page_of(module))
            rows = [f"| [`{n.rpartition('.')[2]}`]({posixpath.relpath(page_of(n), start)}) | {what(n)} |" for n in modules_below]
            lines += ["", "## Modules", "", "| module | what is in it |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def nav_of(package: str) -> list[object]:
    """A package's page, then those of its modules."""
    entries: list[object] = [page_of(package)]
    for name in below(package):
        last = name.rpartition(".")[2]
        entries.append({last: nav_of(name) if modules()[name].name == "__init__.py" else page_of(name)})
    return entries


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """The modules, in the navigation."""
    assert config.nav is not None
    for section in config.nav:
        for entries in section.values():
            for entry in entries:
                if entry.get("API"):
                    entry["API"] = nav_of("onceforall")
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """The files that are not in docs/."""
    from mkdocs.structure.files import File

    for path, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for module in modules():
        files.append(File.generated(config, page_of(module), content=text_of(module)))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links that leave docs/, or come from outside of it, lead to the page of the same file; names of ours lead to the API.

    Links whose words are a file's name, which readers of the repository know it by, get its title.
    """
    uri = page.file.src_uri
    if uri.startswith("api/"):
        return markdown
    here = next((ROOT / path for path, at in OUTSIDE.items() if at == uri), DOCS / uri)

    def entitled(match: re.Match[str]) -> str:
        first = (here.parent / match[2]).read_text(encoding="utf-8").partition("\n")[0]
        return f"[{first.removeprefix('# ')}]"

    def moved(match: re.Match[str]) -> str:
        target = (here.parent / match[0]).resolve()
        if target.is_relative_to(DOCS):
            there = target.relative_to(DOCS).as_posix()
        elif target.is_relative_to(ROOT) and target.relative_to(ROOT).as_posix() in OUTSIDE:
            there = OUTSIDE[target.relative_to(ROOT).as_posix()]
        else:
            return match[0]
        return posixpath.relpath(there, posixpath.dirname(uri))

    def named(match: re.Match[str]) -> str:
        found = anchor(match[1])
        if found is None and uri == OUTSIDE["CHANGELOG.md"]:
            return match[0]  # a name of its time
        return f"[`{match[1]}{match[2]}`][{found or match[1]}]"  # what is not there is a warning

    return outside_fences(markdown, lambda text: NAME.sub(named, LINK.sub(moved, FILE_NAME.sub(entitled, text))))


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])
