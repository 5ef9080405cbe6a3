"""The page in headless Chromium, with real clicks. OFA_SCREENSHOTS=1 writes the pictures of docs/explorer.md."""

import importlib.util
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import onceforall
from explorers import Served, make_anew, serve
from onceforall.cli.explore import page_to
from onceforall.common.files import append_line, read_json
from onceforall.data.reading import Reading
from onceforall.pipeline import Run, fit_predictor, predict, train
from several_labels import shapes_table
from tiny_run import SPACE

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
IMAGES = Path(__file__).parents[2] / "docs/images"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright: pip install 'onceforall[dev]'"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def explored(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An explorer on a run of its own; OFA_SCREENSHOTS may name a run directory that is worth showing."""
    shown = os.environ.get("OFA_SCREENSHOTS", "")
    source = Path(shown) if (Path(shown) / "run.json").is_file() and shown else measured
    run = Path(shutil.copytree(source, tmp_path_factory.mktemp("browser") / source.name))
    shutil.rmtree(run / "explorer", ignore_errors=True)
    for one in serve(run):
        one.wait("/api/run", "filling", False, 300) if shown else one.wait("/api/run", "ready")
        yield one


@pytest.fixture
def page(browser: Any, explored: Served) -> Iterator[Any]:
    yield from opened(browser, explored)


def opened(browser: Any, served: Served, width: int = 1280, height: int = 900, **settings: Any) -> Iterator[Any]:
    """A page on which nothing may go wrong unseen."""
    context = browser.new_context(viewport={"width": width, "height": height}, **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    page.on("request", lambda request: request.url.startswith(("http://127.0.0.1", "data:", "blob:")) or wrong.append(request.url))
    page.goto(served.url)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert not wrong


def shoot(page: Any, name: str) -> None:
    if not os.environ.get("OFA_SCREENSHOTS"):
        return
    from PIL import Image

    path = IMAGES / f"explorer-{name}.png"
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as image:
        image.convert("RGB").quantize(200).save(path, optimize=True)
    assert path.stat().st_size < 200_000


def until(page: Any, condition: str, arg: object = None) -> None:
    """Wait for it. Playwright's own way evaluates text inside the page, which the page's policy forbids."""
    wait(page, lambda: bool(page.evaluate(condition, arg)), condition)


def wait(page: Any, true: Callable[[], bool], what: str = "it") -> None:
    for _ in range(400):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{what} did not come true: {page.inner_text('body')}")


def shown(page: Any) -> str:
    return str(page.get_attribute("#best", "data-id"))


def slide(page: Any, name: str, to: int) -> None:
    page.locator(f"#to-{name}").evaluate("(e, to) => { e.value = to; e.dispatchEvent(new Event('input')); }", to)
    until(page, "now => `${document.getElementById('best').dataset.position} `.includes(now)", f"{name}={to} ")


def test_sliders_pins_comparison_and_a_second_tab(browser: Any, explored: Served, page: Any) -> None:
    page.wait_for_selector("#picture svg .ofa-net-block")
    assert "key" not in page.url
    slide(page, "latency_ms", 0)
    until(page, "document.getElementById('status').textContent.includes('answered in')")
    smallest = shown(page)
    page.click("#setA")
    page.click("#pin")
    page.wait_for_selector("#pins li[data-id]")
    slide(page, "latency_ms", 1000)
    assert shown(page) != smallest
    page.keyboard.press("b")
    assert page.locator("#compare table tbody tr").count() >= 7
    assert page.locator("#compare td.better").count() >= 2
    slide(page, "latency_ms", 600)
    shoot(page, "light")
    page.fill("#pins input", "the small one")
    page.press("#pins input", "Enter")
    page.click("#chart svg", position={"x": 300, "y": 60})
    for second in opened(browser, explored):  # another person pins at the same time
        until(second, "document.querySelector('#pins input')?.value === 'the small one'")
        slide(second, "latency_ms", 1000)
        until(second, "!document.getElementById('status').textContent.includes('searching')")
        second.click("#pin")
        until(second, "document.querySelectorAll('#pins li[data-id]').length === 2")
    until(page, "document.querySelectorAll('#pins li[data-id]').length === 2")
    page.reload()
    until(page, "document.querySelectorAll('#pins li[data-id]').length === 2")
    assert page.input_value("#pins input >> nth=0") == "the small one"
    assert len(read_json(explored.app.pins.path)["pins"]) == 2


def number(page: Any, place: str, unit: str) -> float:
    """What is shown there before the unit."""
    return float(page.inner_text(place).partition(f" {unit}")[0].split()[-1])


def pinned_as_shown(page: Any) -> bool:
    """Whether a pin of the network that is shown, whose numbers the pins ask for, has the accuracy that is shown."""
    page.click("#pin")
    rows = [f"#pins li >> nth={i} >> small" for i in range(page.locator("#pins li").count())]
    return number(page, "#tiles b", "%") in [number(page, row, "%") for row in rows]


@pytest.fixture
def changing(run_copy: Path) -> Iterator[Served]:
    fit_predictor(run_copy, kinds=["smooth"])
    yield from serve(run_copy)


def test_old_numbers_go_when_the_run_is_made_anew(browser: Any, changing: Served) -> None:
    for page in opened(browser, changing):
        look_at_what_changes(page, changing)


def look_at_what_changes(page: Any, served: Served) -> None:
    page.wait_for_selector("#picture svg")
    page.uncheck("#on-latency_ms")
    slide(page, "macs", 20)
    page.click("#pin")
    page.click("#setA")
    page.wait_for_selector("#pins li[data-id]")
    pin, a = "#pins li[data-id] small", "#compare tbody tr:nth-child({}) td"
    limit, top1, ms = number(page, "#value-macs", "k"), number(page, a.format(1), "%"), number(page, a.format(3), "ms")
    make_anew(served.app.run.folder)
    for place in (pin, a.format(1)):
        wait(page, lambda place=place: number(page, place, "%") != pytest.approx(top1, abs=0.06))
    for place in (pin, a.format(3)):
        wait(page, lambda place=place: number(page, place, "ms") == pytest.approx(2 * ms, rel=0.02))
    assert number(page, "#compare h3", "%") == pytest.approx(number(page, a.format(1), "%"), abs=0.06)
    assert number(page, "#value-macs", "k") == pytest.approx(limit, rel=0.01)
    arch = next(pin["arch"] for pin in served.client.get("/api/pins").json())
    assert number(page, pin, "%") == pytest.approx(
        100 * served.client.post("/api/network", json={"arch": arch}).json()["top1"], abs=0.06
    )
    wait(page, lambda: pinned_as_shown(page))
    shutil.rmtree(next(served.app.run.folder.glob("latency/*")))
    until(page, "document.getElementById('devices').hidden && !document.querySelector('#pins small').textContent.includes(' ms ')")
    assert "latency" not in page.inner_text("#compare")
    assert "latency" not in page.inner_text("#tiles")
    assert page.is_hidden("#error")


def test_errors_are_told_as_text(page: Any) -> None:
    page.wait_for_selector("#picture svg")
    page.route("**/api/best?*", lambda route: route.fulfill(status=400, json={"error": "a clear <b>line</b>"}))
    slide(page, "macs", 500)
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error span") == "a clear <b>line</b>"
    page.unroute("**/api/best?*")
    slide(page, "macs", 501)
    page.click("#error button")
    assert page.is_hidden("#error")


def test_the_file_that_ofa_explore_opens_leads_to_the_page(browser: Any, explored: Served, tmp_path: Path) -> None:
    path = tmp_path / "open.html"
    path.write_text(page_to(explored.url))
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    assert page.url == explored.url.partition("?")[0]
    page.reload()  # the cookie is enough, though another place led here
    page.wait_for_selector("html[data-ready=true]")
    context.close()


def test_keyboard_only(page: Any) -> None:
    page.wait_for_selector("#picture svg")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the sliders"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    seen = []
    for _ in range(4):
        seen.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert seen[:3] == ["device", "on-latency_ms", "to-latency_ms"]
    page.focus("#to-latency_ms")
    page.keyboard.press("Home")
    until(page, "document.getElementById('best').dataset.position.startsWith('latency_ms=0 ')")
    before = shown(page)
    page.keyboard.press("End")
    until(page, "id => document.getElementById('best').dataset.id !== id", arg=before)
    page.focus("#tab-explore")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#mistakes")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#exports")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#training")
    page.wait_for_selector("#losschart path.line")
    shoot(page, "training")


def test_export_with_progress_and_download(page: Any, tmp_path: Path) -> None:
    page.wait_for_selector("#picture svg")
    page.uncheck("#on-latency_ms")  # a busy machine would miss it
    until(page, "() => document.getElementById('value-latency_ms').textContent === 'no limit'")
    page.click("#toexport")
    for box in page.locator("#formats input:checked").all():
        if box.input_value() != "pytorch":
            box.uncheck()
    page.fill("#exportname", "for the test")
    page.click("#export")
    page.wait_for_selector("#jobs progress")
    page.reload()  # the export goes on
    page.click("#tab-exports")
    page.wait_for_selector("#jobs progress, #jobs a")
    page.wait_for_selector("#export:not([disabled])")
    assert "The network shown" in page.inner_text("#exportwhat")
    page.wait_for_selector(
        "#jobs li[data-state=done], #jobs li[data-state=failed]", timeout=400_000 if os.environ.get("OFA_SCREENSHOTS") else 120_000
    )
    assert page.is_visible("#jobs li[data-state=done] a"), page.inner_text("#jobs")
    shoot(page, "exports")
    with page.expect_download() as download:
        page.click("#jobs a")
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert onceforall.load(folder).training is False
    page.click("#tab-mistakes")
    page.click("#lookexported")  # what it says with its own weights
    page.wait_for_selector("#looks li:has-text(', as exported')", timeout=120_000)
    page.click("#looks li:has-text(', as exported') [title=Remove]")


def test_mistakes_with_photographs(page: Any) -> None:
    page.click("#tab-mistakes")
    for name in ("largest", "smallest"):
        page.click(f"#look{name}")
        page.wait_for_selector(f"#looks li:has-text('the {name}')", timeout=120_000)
    assert page.inner_text("#lookname").startswith("the smallest, on ")
    page.click("#matrix a >> nth=1")
    until(page, "!document.getElementById('celltitle').textContent.includes('confident')")
    loaded = "document.querySelector('#cell img') && [...document.querySelectorAll('#cell img')].every(i => i.naturalWidth)"
    until(page, loaded)
    page.click("#pairs button >> nth=0")
    until(page, "document.getElementById('celltitle').textContent.includes(' taken for ')")
    until(page, loaded)
    assert "alone is right on" in page.inner_text("#against")
    assert page.locator("#against figure").count() > 0
    page.click("#looks li:has-text('the largest') .look")
    until(page, "document.getElementById('lookname').textContent.startsWith('the largest')")
    page.click("#looks li:has-text('the largest') [title=Remove]")
    until(page, "document.getElementById('lookname').textContent.startsWith('the smallest')")


@pytest.fixture(scope="module")
def several(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images with several labels each, little trained, with a predictor."""
    folder = tmp_path_factory.mktemp("several")
    table, space = shapes_table(folder / "data", images=90, size=20), {**SPACE, "resolutions": (16,)}
    reading = Reading(label="tags", task="multilabel")
    given = {"preset": "digits", "space": space, "scheme": "single_path", "epochs": 1.0, "batch_size": 16, "holdout": 0.25}
    train(str(table), out=folder / "run", reading=reading, **given)
    predict(folder / "run", subnets=16)
    return folder / "run"


def test_several_labels_an_image(browser: Any, several: Path) -> None:
    for served in serve(several):
        for page in opened(browser, served):
            page.wait_for_selector("#picture svg")
            page.click("#setA")
            page.click("#pin")
            page.wait_for_selector("#pins li[data-id]")
            seen = [page.inner_text("#explore"), page.get_attribute("#chart svg", "aria-label")]
            page.click("#tab-mistakes")
            page.click("#looklargest")
            page.wait_for_selector("#look:not([hidden])", timeout=120_000)
            assert "There is no confusion matrix: an image may have several labels" in page.inner_text("#lookname ~ #looknote")
            page.click("#pairs button >> nth=0")
            until(page, "document.querySelector('#cell img')?.naturalWidth > 0")
            seen.append(page.inner_text("#mistakes"))
            page.click("#tab-exports")
            seen.append(page.inner_text("#exports"))
            page.click("#tab-training")
            page.wait_for_selector("#top1chart svg")
            seen.append(page.inner_text("#training"))
            for text in seen:
                assert "top-1" not in text.lower()
            assert all("mAP" in text for text in (*seen[:3], seen[4]))
            assert "mAP over" in seen[0]
            assert "MAP" not in "".join(seen)


def test_phone_and_dark(browser: Any, explored: Served) -> None:
    for page in opened(browser, explored, 375, 800, color_scheme="dark", reduced_motion="reduce"):
        page.wait_for_selector("#picture svg")
        for tab in ("mistakes", "exports", "training", "explore"):
            page.click(f"#tab-{tab}")
            assert page.evaluate("document.documentElement.scrollWidth") == 375
        shoot(page, "phone")
    if os.environ.get("OFA_SCREENSHOTS"):
        for page in opened(browser, explored, color_scheme="dark"):
            page.wait_for_selector("#picture svg")
            page.click("#setA")
            shoot(page, "dark")


def test_a_training_grows_and_what_is_missing_is_told(browser: Any, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "young"))
    (run / "supernet.safetensors").unlink()
    for served in serve(run):
        for page in opened(browser, served):
            until(page, "document.getElementById('missing').textContent.includes('its training has not finished')")
            assert f"ofa train digits --out {run} --resume" in page.inner_text("#missing")
            page.click("#tab-training")
            page.wait_for_selector("#losschart path.line")
            step = int(page.get_attribute("#trainstate", "data-step"))
            before = page.get_attribute("#losschart path.line", "d")
            phase = Run.open(run).info and read_phase(run)
            record = {"event": "train", "phase": phase, "step": step + 5, "seconds": 1e4, "loss": 0.5, "rate": 0.1}
            append_line(run / "metrics.jsonl", record)
            until(page, "step => document.getElementById('trainstate').dataset.step === String(step)", arg=step + 5)
            until(page, "d => document.querySelector('#losschart path.line').getAttribute('d') !== d", arg=before)


def read_phase(run: Path) -> str:
    return str(read_json(run / "schedule.json")["phases"][-1]["name"])


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_the_longest_numbers_fit_their_tiles(browser: Any, explored: Served, width: int) -> None:
    """Nearly everything right, and costs with as many digits as there can be."""
    for page in opened(browser, explored, width=width):

        def longest(route: Any) -> None:
            answer = route.fetch()
            data = answer.json()
            if data["network"]:
                most = {"macs": 999.9e9, "params": 999.9e6, "memory_bytes": 9.99e9}
                costs = {name: most.get(name, 1234.4) for name in data["network"]["costs"]}
                data["network"] |= {"id": "longest", "top1": 0.999, "std": 0.005, "low": 0.994, "high": 1.0, "costs": costs}
            route.fulfill(response=answer, json=data)

        page.route("**/api/best*", longest)
        slide(page, "latency_ms", 321)
        wait(page, lambda page=page: shown(page) == "longest")
        assert page.inner_text("#tiles .tile b") == "99.9 %"
        assert "99.4 to 100.0 %" in page.inner_text("#tiles .tile")
        if folder := os.environ.get("OFA_LONGEST"):
            page.screenshot(path=f"{folder}/{width}.png", full_page=True)
        wide = page.eval_on_selector_all(
            "#tiles .tile, #tiles .tile b, #tiles .tile span",
            "all => all.filter(e => e.scrollWidth > e.clientWidth + (e.tagName === 'B' ? 0 : 1)).map(e => e.textContent)",
        )
        assert wide == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tops = page.evaluate(
            "[...document.querySelectorAll('#chart path.line.s1, #chart svg.chart')]"
            ".map(e => e.getBoundingClientRect()).filter(box => box.height || box.width).map(box => box.top)"
        )
        assert min(tops) == tops[0]  # the chart itself comes first: no bar begins above it


def test_no_network_has_an_interval_beyond_100_percent(explored: Served) -> None:
    network = explored.client.get("/api/best").json()["network"]
    assert 0 <= network["low"] <= network["top1"] <= network["high"] <= 1
