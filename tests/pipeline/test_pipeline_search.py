"""Evaluate, predict, search, specialise and report: on held-out images only, within the limits, and safe to interrupt."""

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onceforall.accuracy import AccuracyRow
from onceforall.arch import Arch
from onceforall.common.files import read_json, read_lines
from onceforall.common.progress import Progress
from onceforall.common.readable import amount, rounded_up
from onceforall.common.records import read_record
from onceforall.errors import DataError, DeviceError, FileError, InfeasibleError, VerificationError
from onceforall.latency import Timing
from onceforall.pipeline import Budget, Run, bundle, evaluate, front, profile, report, search, specialise
from onceforall.pipeline.run_directory.finalists import MeasuredFront
from onceforall.pipeline.search import Searcher
from onceforall.pipeline.specialising.record import specialised_in
from tiny_run import openings

NETWORK = {
    "README.md",
    "arch.json",
    "config.json",
    "model.onnx",
    "model.py",
    "network.svg",
    "preprocess.py",
    "weights.safetensors",
    "trained_on.json",
}
# entries of a network in specialised/, for whoever reads these files
WRITTEN = """arch budget confusion device files finetuned folder held_out_images held_out_score held_out_top1 labels latency
left_out mistakes predicted_ms predicted_top1 proofs readers shares test"""


def middle_macs(run: Path) -> float:
    space, classes = Run.open(run).space, 10
    ends = [space.lower(arch, classes).macs for arch in (space.smallest(), space.largest())]
    return float(np.sqrt(ends[0] * ends[1]))


# -- search and specialise -------------------------------------------------------------------------------------------------


def test_search_keeps_the_limits(run_copy: Path) -> None:
    run, limit = Run.open(run_copy), middle_macs(run_copy)
    plan = run.space.lower(run.space.largest(), 10)
    budget = Budget(macs=limit, params=0.9 * plan.params, memory_bytes=0.9 * plan.peak_memory_bytes, latency_ms=1000.0)
    found = search(run_copy, budget, finalists=2)
    assert 1 <= len(found) <= 4  # two of them are known networks at most
    for candidate in found:
        lowered = run.space.lower(candidate.arch, 10)
        assert lowered.macs <= limit
        assert lowered.params <= 0.9 * plan.params
        assert lowered.peak_memory_bytes <= 0.9 * plan.peak_memory_bytes
        assert candidate.accuracy.images == run.info.images["held-out"]
    written = read_lines(run_copy / "searches.jsonl")
    assert [Arch.from_json(record["arch"]) for record in written] == [candidate.arch for candidate in found]
    assert {"budget", "device", "predicted_top1", "predicted_ms", "held_out_top1", "held_out_images"} <= written[0].keys()
    assert openings(run_copy) == []


def test_the_best_that_were_measured_are_finalists_too(run_copy: Path) -> None:
    """Whatever the predictor thinks of others: its best of very many predictions is a lucky one."""
    searcher = Searcher(Run.open(run_copy), "cpu", [Budget()])
    space, rng = searcher.run.space, np.random.default_rng(5)
    good, fair, unlucky, large = (space.sample(rng) for _ in range(4))
    rows = {good: 0.999, fair: 0.99, unlucky: 0.001, large: 0.9999}
    searcher._rows = [AccuracyRow(arch, top1, 0.0, 100_000, 0.0) for arch, top1 in rows.items()]
    assert searcher.predictor.score_with_error([good])[1][0] > 0
    assert searcher._known({}, [space.smallest()]) == [large, good]  # two at most, the best first
    macs = searcher.costs["macs"].estimate
    limit = {"macs": (macs, float(macs([good])[0]))}
    found = searcher._known(limit, [])
    assert good in found
    assert all(macs([arch])[0] <= limit["macs"][1] for arch in found)
    assert searcher._known({}, [large, good, fair]) == [unlucky]
    searcher._rows = []
    assert searcher._known({}, []) == []


def test_caution_takes_off_errors(run_copy: Path) -> None:
    run = Run.open(run_copy)
    cautious, bold = (Searcher(run, "cpu", [Budget()], caution=caution) for caution in (2.0, 0.0))
    genes = run.space.sample_genes(np.random.default_rng(0), 20)
    mean, std = bold.predictor.predict_with_error(genes, measured=False)
    np.testing.assert_allclose(bold.score(genes), mean, atol=1e-6)
    np.testing.assert_allclose(cautious.score(genes), mean - 2 * std, atol=1e-6)
    predictor = cautious.predictor
    model = replace(predictor.model, middle=predictor.model.middle + 2)  # type: ignore[arg-type, attr-defined]
    cautious.predictor = replace(predictor, model=model)
    scores = cautious.score(genes)
    assert scores.min() > 1, "the best are told apart even where all are predicted to have 100 %"
    np.testing.assert_allclose(scores, bold.predictor.score(genes) + 2 - 2 * std, atol=1e-6)
    with pytest.raises(DataError, match="--caution -1: give a number of standard deviations"):
        search(run_copy, Budget(), caution=-1)


def test_few_images_tell_finalists_apart(run_copy: Path) -> None:
    """Of a large data set only some images; a measurement on fewer counts less, and what they have in common not at all."""
    run, few = Run.open(run_copy), 4
    whole, part = (Searcher(run, "cpu", [Budget()], images=images) for images in (None, few))
    every = len(whole.splits.held_out)
    archs = [run.space.smallest(), run.space.largest()]
    several = part.measure(archs)
    for one, other in zip(whole.measure(archs), several, strict=True):
        assert (one.accuracy.images, other.accuracy.images) == (every, few)
        assert (one.offset, other.noise) == (0.0, pytest.approx(one.noise * (every / few) ** 0.5))
        sure, unsure = (replace(one, noise=noise).expected_top1 - one.predicted_top1 for noise in (0.01, 0.02))
        assert 0 < unsure / sure < 1
        assert replace(one, offset=0.1).expected_top1 < one.expected_top1
    above = [(c.steady or c.accuracy).value - c.predicted_top1 for c in several]
    assert several[0].offset == several[1].offset == pytest.approx(np.mean(above)), "a lucky sample favours no one"


class Clock:
    """Gives networks made-up latencies, in place of `Searcher.times`."""

    def __init__(self, *ms: float) -> None:
        self.ms = list(ms)

    def __call__(self, archs: list[Arch]) -> dict[Arch, Timing]:
        return {arch: Timing(ms, ms, ms, 1) for arch, ms in zip(archs, (self.ms.pop(0) for _ in archs), strict=True)}


def test_slow_networks_are_not_measured(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not their accuracy; and what counts of a network that was timed twice is the last time."""
    searcher, steps = Searcher(Run.open(run_copy), "cpu", [Budget()]), list[str]()
    searcher._rows = []  # no known networks besides the finalists

    def found(limit: float, *ms: float) -> list[float]:
        monkeypatch.setattr(searcher, "times", Clock(*ms))
        budget = Budget(latency_ms=limit, params=1e9)
        return [c.timing.ms for c in searcher.find(budget, finalists=2, seed=0, progress=Progress(say=steps.append))]

    assert found(5.0, 9.0, 1.0) == [1.0]
    assert len(searcher.accuracies) == 1
    assert "1 of them took longer than 5.00 ms when measured" in steps
    assert sorted(found(5.0, 2.0, 6.0)) == [2.0], "the same two networks: the one that was fast is slow now"
    with pytest.raises(InfeasibleError, match="none of the finalists met 5 ms when measured \\(fastest: 7 ms\\)"):
        found(5.0, 7.0, 8.0, 7.0, 8.0, 7.0, 8.0)


def test_specialise_measures_few_images(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("specialise", "bundle"):
        monkeypatch.setattr(importlib.import_module(f"onceforall.pipeline.{module}"), "FINALIST_IMAGES", 4)
    searching, seen = importlib.import_module("onceforall.pipeline.search"), list[tuple[int, int]]()
    monkeypatch.setattr(searching, "KNOWN", 0)
    measure = searching.measure_group

    def noted(*parts: Any, held_out: Any, calibration: int, **rest: Any) -> Any:
        seen.append((len(held_out), calibration))
        return measure(*parts, held_out=held_out, calibration=calibration, **rest)

    monkeypatch.setattr(searching, "measure_group", noted)
    (made,) = specialise(run_copy, [Budget()], finalists=1, export=["pytorch"])
    assert read_json(run_copy / "specialised" / f"{made.folder.name}.json")["held_out_images"] == 4
    bundle(run_copy, [Budget()], finalists=1)
    assert seen == [(4, searching.FINALIST_CALIBRATION)] * 2
    search(run_copy, Budget(), finalists=1)
    every = Run.open(run_copy).info.images["held-out"]
    assert seen[2:] == [(every, 2000)]
    assert [r["held_out_images"] for r in read_lines(run_copy / "searches.jsonl")] == [4, 4, every]


def test_front_is_measured(run_copy: Path) -> None:
    limit = middle_macs(run_copy)
    points = front(run_copy, points=3, budget=Budget(macs=limit))
    assert 1 <= len(points) <= 3
    run = Run.open(run_copy)
    assert all(run.space.lower(p.arch, 10).macs <= limit for p in points)
    ms = [p.timing.ms for p in points]
    assert ms == sorted(ms)
    for i, point in enumerate(points):
        faster = [p.accuracy.top1 for p in points[:i]]
        assert point.stands == all(point.accuracy.top1 > top1 for top1 in faster)
    written = read_json(run_copy / "front.json")
    assert [Arch.from_json(record["arch"]) for record in written["points"]] == [p.arch for p in points]
    assert {"stands", "predicted_std", "held_out", "measured_ms"} <= written["points"][0].keys()
    assert all(record["predicted_score"] == record["predicted_top1"] for record in written["points"])  # as the metric is top-1
    assert [one.held_out for one in read_record(run_copy / "front.json", MeasuredFront).points] == [
        p.accuracy.value for p in points
    ]
    assert openings(run_copy) == []
    with pytest.raises(DataError, match="at least 2"):
        front(run_copy, points=1)


def test_nothing_keeps_the_limits(run_copy: Path) -> None:
    run = Run.open(run_copy)
    least = run.space.lower(run.space.smallest(), 10).macs
    with pytest.raises(InfeasibleError, match=rf"10 MACs \(smallest {amount(rounded_up(least))} MACs, of "):
        search(run_copy, Budget(macs=10))
    assert search(run_copy, Budget(macs=rounded_up(least)), finalists=1), "the advice works"
    with pytest.raises(InfeasibleError, match=r"1e-06 ms \(smallest 0\.0"):
        search(run_copy, Budget(latency_ms=1e-6))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_limits_that_are_none(value: float) -> None:
    with pytest.raises(InfeasibleError, match=r"the limit macs is .*: it must be a number above 0"):
        Budget(macs=value)


def test_specialise(run_copy: Path, tmp_path: Path) -> None:
    limit, results = middle_macs(run_copy), []
    (elsewhere,) = specialise(run_copy, [Budget(macs=limit)], finalists=1, out=tmp_path / "my" / "networks", export=["pytorch"])
    assert elsewhere.folder.parent == tmp_path / "my" / "networks"
    assert {path.name for path in elsewhere.folder.iterdir()} == NETWORK - {"model.onnx"}
    for _ in range(2):  # the second replaces what the first left
        (result,) = specialise(run_copy, [Budget(macs=limit)], finalists=1)
        assert result.folder.parent == run_copy / "specialised"
        assert {path.name for path in result.folder.iterdir()} == NETWORK
        results.append(result)
    assert results[0].folder == results[1].folder
    written = read_json(run_copy / "specialised" / f"{result.folder.name}.json")
    assert written.keys() >= set(WRITTEN.split())
    assert specialised_in(Run.open(run_copy))[result.folder.name].arch == result.arch
    assert Arch.from_json((result.folder / "arch.json").read_text()) == result.arch
    assert result.test.images == Run.open(run_copy).info.images["test"]
    assert [o["purpose"] for o in openings(run_copy)] == [f"ofa specialise, card of {result.folder.name}"] * 3
    (evaluated,) = evaluate(run_copy, arch=str(result.folder), split="test")
    assert evaluated.accuracy.top1 == pytest.approx(result.test.top1)


def test_specialise_refuses_at_once(run_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="unknown export format 'onx': choose from pytorch, onnx"):
        specialise(run_copy, [Budget()], export=["onx"])
    with pytest.raises(DeviceError, match="unknown runtime 'tpu'"):
        specialise(run_copy, [Budget()], device="tpu")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError):
        specialise(run_copy, [Budget()], out=tmp_path / "file")


def test_what_comes_first(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    with pytest.raises(FileError, match="cpu has not been profiled yet: ofa profile"):
        search(run, Budget(latency_ms=5.0))
    with pytest.raises(DeviceError, match="unknown device setting 'cores'"):
        profile(run, device="cpu:cores=2")


# -- report ----------------------------------------------------------------------------------------------------------------


def test_report_at_every_stage(trained: Path, measured: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    pages = []
    (run / "supernet.safetensors").rename(tmp_path / "weights")
    pages.append(report(run).read_text())  # training has not finished
    (tmp_path / "weights").rename(run / "supernet.safetensors")
    pages.append(report(run).read_text())
    shutil.copytree(measured / "latency", run / "latency")
    pages.append(report(run).read_text())
    shutil.copytree(measured / "accuracy", run / "accuracy")
    pages.append(report(run).read_text())
    specialise(run, [Budget(macs=middle_macs(run))], finalists=1)
    pages.append(report(run).read_text())
    assert all(page.lstrip().lower().startswith("<!doctype html>") for page in pages)
    sizes = [len(page) for page in pages[1:]]
    assert sizes == sorted(sizes)
    assert report(run, out=tmp_path / "page.html") == tmp_path / "page.html"


def test_report_before_the_first_step(trained: Path, tmp_path: Path) -> None:
    for name in ("run.json", "schedule.json"):
        shutil.copy(trained / name, tmp_path)
    assert report(tmp_path).stat().st_size > 1000


def test_the_reports_page_needs_nothing_else(measured: Path, tmp_path: Path) -> None:
    page = report(measured, out=tmp_path / "page.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
    assert json.dumps(str(measured))[1:-1] in page


def test_limits_of_size_need_no_profile(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "latency")
    run = Run.open(run_copy)
    largest = run.space.lower(run.space.largest(), run.num_classes)
    budget = Budget(macs=0.7 * largest.macs, params=0.9 * largest.params, memory_bytes=largest.peak_memory_bytes)
    best = search(run_copy, budget, finalists=2)[0]
    assert run.space.lower(best.arch, run.num_classes).macs <= 0.7 * largest.macs
    assert best.predicted_ms is None
    assert best.timing.ms > 0
    (network,) = specialise(run_copy, [budget], finalists=1, export=["pytorch"])
    assert network.predicted_ms is None
    assert report(run_copy).exists()
    with pytest.raises(FileError, match="cpu has not been profiled yet: ofa profile"):
        search(run_copy, Budget(latency_ms=100.0))
