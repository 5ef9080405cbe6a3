"""The documentation as a site: built without a warning, with a page for each module, and with what people look for."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python")
FOUND_AT = {  # what people look for, and its place
    "onceforall": ["supernets/supernet.html#onceforall.supernets.supernet.Supernet", "spaces/index.html#onceforall.spaces.space"],
    "onceforall.pipeline": ["train.html#onceforall.pipeline.train.train", "#onceforall.options.shared.Budget"],
    "onceforall.backends.common": ["#onceforall.backends.common.Runtime.load", "#onceforall.backends.common.Runtime.require"],
}


def pages() -> Any:
    """docs/pages.py, which mkdocs loads by its path."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that would hold it
        return False


PAGES = pages()
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Page(HTMLParser):
    """The places that links of a page can lead to, where its own lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loaded += [given["src"]] if tag in ("script", "img", "iframe") and "src" in given else []
        self.loaded += [given["href"]] if tag == "link" and given.get("rel") == "stylesheet" else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := [module for module in NEEDED if not there(module)]:
        pytest.skip(f"{missing[0]} is not installed: pip install 'onceforall[docs]'")
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_each_module_has_a_page_with_what_is_in_it(site: Path) -> None:
    assert len(PAGES.modules()) > 200
    for module in PAGES.modules():
        page = Page((site / PAGES.page_of(module)).with_suffix(".html").read_text(encoding="utf-8"))
        assert module in page.places
        for name in PAGES.defined(PAGES.tree_of(module).body):
            assert name.startswith("_") or name == "T" or f"{module}.{name}" in page.places, f"the page of {module} lacks {name}"


@pytest.mark.parametrize("module", FOUND_AT)
def test_what_people_look_for_is_found(site: Path, module: str) -> None:
    page = (site / PAGES.page_of(module)).with_suffix(".html")
    links = Page(page.read_text(encoding="utf-8")).links
    for place in FOUND_AT[module]:
        assert any(link.endswith(place) for link in links), f"{module} does not lead to {place}"
    assert "Raises" in (site / "api/pipeline/specialise.html").read_text(encoding="utf-8")
    assert "specialise" in (site / "search/search_index.json").read_text(encoding="utf-8")


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    known = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in known.items():
        for url in page.loaded:
            assert "//" not in url, f"{path} loads from elsewhere"
            assert (path.parent / url.partition("?")[0]).resolve().exists(), f"{path}: {url}"
        for link in page.links:
            url, _, place = link.partition("#")
            if ":" in link or (path.is_relative_to(site / "api") and not url):
                continue
            target = (path.parent / url).resolve() if url else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path}: {link}"
            assert not place or target not in known or place in known[target].places, f"{path}: {link}"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.skipif(not there("playwright"), reason="no playwright: pip install 'onceforall[dev]'")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_site_opened_from_the_disk_can_be_searched(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or wrong.append(request.url))
        page.goto((site / "tutorial.html").as_uri())
        page.click("input.md-search__input")
        page.keyboard.type("microcontrollers")
        page.wait_for_selector(".md-search-result__item a[href*='devices.html']", state="attached", timeout=30_000)
        browser.close()
    assert not wrong


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    """In prose; the code runs in tests/test_docs.py. What the site's hook cannot find would be no link."""
    prose = PAGES.FENCE.sub("", page.read_text(encoding="utf-8"))
    for match in PAGES.NAME.finditer(prose):
        assert PAGES.anchor(match[1]) is not None, f"{page.name} names {match[1]}"


def test_what_packages_hand_out_is_found_where_it_is_defined() -> None:
    for module, path in PAGES.modules().items():
        if path.name == "__init__.py":
            loaded = import_module(module)
            for name in vars(loaded).get("__all__", ()):
                at = PAGES.home(f"{module}.{name}")
                assert name.startswith("__") or at is not None, f"{module}.{name}"
                if at is not None and at not in PAGES.modules():
                    source, _, last = at.rpartition(".")
                    assert getattr(import_module(source), last) is getattr(loaded, name)


def _leaves(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for below in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _leaves(below)


def test_navigation_and_the_list_of_pages_have_every_page() -> None:
    """For readers without the site, docs/contents.md is the navigation."""
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    nav = set(_leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert nav == written | set(PAGES.OUTSIDE.values()) | {"api/index.md"}
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs" / "contents.md").read_text(encoding="utf-8")))
    assert listed == (written - {"contents.md"}) | {f"../{name}" for name in PAGES.OUTSIDE}
