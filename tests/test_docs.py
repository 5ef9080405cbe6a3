"""What the documents show runs, and what they point to is there."""

import re
from pathlib import Path

import pytest

from onceforall.errors import DeviceError, InfeasibleError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    (page, code) for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=[f"{page.name}-{i}" for i, (page, _) in enumerate(EXAMPLES)])
def test_examples_run(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in range(3):
        place = tmp_path / str(attempt)
        place.mkdir()
        monkeypatch.chdir(place)
        try:
            exec(compile(code, page.name, "exec"), {})
            return
        except (DeviceError, InfeasibleError) as error:  # the machine was too busy to measure latency
            busy = error
    raise busy


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "src/onceforall" / path).exists(), f"{page.name} names {path}"
