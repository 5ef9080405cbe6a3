"""What the documents show runs, and what they point to is there."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onceforall.accuracy.choose import LEARNERS
from onceforall.accuracy.predictor import MODELS
from onceforall.backends import RUNTIMES
from onceforall.cli import program
from onceforall.errors import DeviceError, InfeasibleError
from onceforall.export import FORMATS
from onceforall.pipeline import PRESETS
from onceforall.spaces import FAMILIES
from onceforall.train import SCHEMES, STRATEGIES
from tiny_run import few_measurements, short_searches

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    (page, code) for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]
LOOPS = ("lightning", "transformers")  # other projects' loops, whose own warnings are no fault of ours
SHELL = [
    (page, line.strip())
    for page in PAGES
    for code in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in code.replace("\\\n", " ").splitlines()
]
COMMANDS = [(page, line) for page, line in SHELL if re.match(r"(ofa|torchrun) ", line)]
REGISTRIES: list[dict[str, Any]] = [FAMILIES, RUNTIMES, STRATEGIES, SCHEMES, PRESETS, LEARNERS, MODELS, FORMATS]


@pytest.fixture
def _registries() -> Iterator[None]:
    """What an example adds to them is gone afterwards."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, own in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(own)


def example(number: int, page: Path, code: str) -> Any:
    """What is in it needs a package for some."""
    packages = [name for name in LOOPS if re.search(rf"^(import|from) {name}\b", code, re.MULTILINE)]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    reason = f"{missing[0]} is not installed: pip install 'onceforall[loops]'" if missing else ""
    marks = [pytest.mark.skipif(bool(missing), reason=reason)] + [pytest.mark.filterwarnings("ignore")] * bool(packages)
    return pytest.param(page, code, id=f"{page.name}-{number}", marks=marks)


@pytest.mark.usefixtures("_registries")
@pytest.mark.parametrize(("page", "code"), [example(i, *pair) for i, pair in enumerate(EXAMPLES)])
def test_examples_run(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in range(3):
        place = tmp_path / str(attempt)
        place.mkdir()
        monkeypatch.chdir(place)
        try:
            with few_measurements(), short_searches():
                exec(compile(code, page.name, "exec"), {})
            return
        except (DeviceError, InfeasibleError) as error:  # the machine was too busy to measure latency
            busy = error
    raise busy


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)[)#]", text) + re.findall(r'<img src="([^":]+)"', text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "src/onceforall" / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page.name}-{i}" for i, (page, _) in enumerate(COMMANDS)])
def test_commands_exist(page: Path, line: str) -> None:
    """Parsed, not carried out: commands and options that do not exist fail."""
    words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)
    while words:
        name, *given = words[: words.index("&&")] if "&&" in words else words
        words = words[len(given) + 2 :]
        if name == "torchrun":
            given = given[given.index("onceforall") + 1 :]
        found: Any = program.ofa
        while given and given[0] in found.__dict__.get("commands", ()):
            found, given = found.commands[given[0]], given[1:]
        own = {name for parameter in program.ofa.__dict__["params"] for name in parameter.opts}
        assert found is not program.ofa or (len(given) == 1 and given[0] in own), line
        if found is not program.ofa:
            found.make_context(found.name, given)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_what_the_table_says(name: str) -> None:
    lines = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith(f"| `{name}` |"))
    preset = PRESETS[name]
    optimizer = {"adamw": "AdamW", "sgd": "SGD"}[preset.recipe.optimizer]
    assert f"{optimizer} {preset.rate:g}, batch {preset.recipe.batch_size:,}, {preset.epochs:g} epochs" in row


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40
