"""`ofa report`: what is on the page is what the run's files say; several runs; what cannot be reported says why in one line."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from onceforall.accuracy import AccuracyPredictor, read_rows
from onceforall.cli import run as ofa
from onceforall.common.files import append_line, read_json, read_lines
from onceforall.common.readable import milliseconds
from onceforall.costs import macs_table, segment_table
from onceforall.data import Problem
from onceforall.errors import FileError, OnceForAllError
from onceforall.latency import LatencyTable, checked_networks
from onceforall.pipeline import Run, report, status
from onceforall.pipeline.accuracies.predictor import load_predictor
from onceforall.pipeline.run_directory.metrics import Metric, Metrics
from onceforall.published import KNOWN_NETWORKS, OFA_NETWORKS
from onceforall.report.costs import read_costs
from onceforall.report.fronts import predictor_doubts, read_fronts
from onceforall.report.predictions import latency_points, read_checks
from onceforall.report.subnets import read_subnets

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Text of each section; fails on tags that do not match and on anything that would be loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.key = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        assert all(name not in ("src", "href") or str(value).startswith("#") for name, value in attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.key = dict(attrs).get("id") or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.sections[self.key] = self.sections.get(self.key, "") + f"{data}\n"


def table_of(folder: Path) -> tuple[Path, LatencyTable]:
    (path,) = (folder / "latency").glob("*/table.json")
    run = Run.open(folder)
    return path.parent, LatencyTable.load(path, run.space, run.num_classes)


def test_numbers_on_the_page_are_those_of_the_files(measured: Path, tmp_path: Path) -> None:
    sections = Page(report(measured, out=tmp_path / "page.html")).sections
    errors = read_json(measured / "accuracy" / "errors.json")
    rows = read_rows(measured / "accuracy", Run.open(measured).space)
    _, table = table_of(measured)
    for text in (f"{100 * errors['rmse']:.2f} points", f"{errors['kendall_tau']:.3f}", f"{errors['fitted_on']}"):
        assert text in sections["accuracy"]
    for row in rows:
        if row.arch.to_json() in errors["checked"]:
            assert f"{100 * row.top1:.1f} %" in sections["accuracy"]
    assert f"{len(rows)} sub-networks, top-1 {100 * min(r.top1 for r in rows):.1f} % to" in sections["subnets"]
    for ms in (*table.errors.measured, *table.errors.predicted):
        assert milliseconds(ms) in sections["latency"]
    assert f"{100 * table.errors.mape:.1f} %" in sections["latency"]
    records = read_lines(measured / "metrics.jsonl")
    for r in records:
        if r["event"] == "validation":
            assert f"{100 * r['top1']:.1f} %" in sections["training"]
    losses = [r for r in records if r["event"] == "train"]
    assert losses
    for r in losses:  # few enough for all to be in the table
        assert f"{r['loss']:.3f}" in sections["training"]
        assert f"{r['rate']:.3g}" in sections["training"]
    for phase in read_json(measured / "schedule.json")["phases"]:
        assert phase["name"] in sections["training"]
    assert f"{records[-1]['step']:,} steps" in sections["costs"]


def test_facts_are_recomputed_from_the_files(measured: Path) -> None:
    run = Run.open(measured)
    rows = read_rows(measured / "accuracy", run.space)
    assert [macs for _, macs in read_subnets(run)] == [run.space.lower(row.arch, run.num_classes).macs for row in rows]
    found = read_checks(run)
    assert found is not None
    errors = np.array([point.x - point.y for point in found.points])
    assert float(np.sqrt(np.mean(errors**2))) == pytest.approx(found.errors["rmse"])
    inside = [point.x_interval[0] <= point.y <= point.x_interval[1] for point in found.points if point.x_interval]
    assert len(inside) == len(found.points)
    assert np.mean(inside) == pytest.approx(found.errors["coverage90"])


def test_latency_of_checked_networks_has_intervals(measured: Path, tmp_path: Path) -> None:
    place, table = table_of(measured)
    found = checked_networks(table, place)
    assert found is not None
    assert table.estimate([arch for arch, _ in found]).tolist() == pytest.approx(list(table.errors.predicted))
    for (_, (low, high)), ms in zip(found, table.errors.measured, strict=True):
        assert low <= ms <= high
    assert [point.y_interval for point in latency_points(table, place)] == [interval for _, interval in found]
    assert checked_networks(table, tmp_path) is None  # without measurements
    assert all(point.y_interval is None for point in latency_points(table, tmp_path))


def test_fronts(measured: Path) -> None:
    run = Run.open(measured)
    _, table = table_of(measured)
    predictor, macs = load_predictor(run), macs_table(segment_table(run.space, run.num_classes))
    found = read_fronts(run, predictor, [table], 0)
    assert list(found) == [(table.device.spec, table.hardware), (None, "")]
    latency, by_macs = found.values()
    for front, cost in ((latency, table), (by_macs, macs)):
        assert not front.published  # digits are not ImageNet
        values = sorted(front.front)
        assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(values))
        best = max(top1 for _, top1 in front.front)
        assert best >= max(top1 for _, top1 in front.random) - 1e-6
        known = {network.name: network.arch(run.space) for network in OFA_NETWORKS}
        for spot in front.elsewhere:
            arch = known[spot.name.partition(" (")[0]]
            assert arch is not None
            assert spot.x == pytest.approx(float(cost.estimate([arch])[0]))  # type: ignore[attr-defined]
            assert spot.y == pytest.approx(float(predictor.predict([arch])[0]))


def test_a_finalist_of_two_devices_counts_for_each(run_copy: Path) -> None:
    run = Run.open(run_copy)
    _, table = table_of(run_copy)
    arch = run.space.smallest()
    for device, ms in ((str(table.device), 3.0), ("pytorch-threads1-batch1", 5.0)):
        record = {"budget": {}, "arch": arch.to_json(), "device": device, "measured_ms": ms, "held_out_top1": 0.5}
        append_line(run_copy / "searches.jsonl", record)
    latency, by_macs = read_fronts(run, load_predictor(run), [table], 0).values()
    assert [spot.x for spot in latency.measured] == [3.0]
    assert [spot.x for spot in by_macs.measured] == [run.space.lower(arch, run.num_classes).macs]


def test_published_accuracies_stand_beside_those_of_imagenet_only(measured: Path) -> None:
    run = Run.open(measured)
    names = [f"n{i:08}" for i in range(1000)]
    shown = Run(measured, replace(run.info, classes=tuple(names)))
    predictor = load_predictor(run)
    (by_macs,) = read_fronts(shown, predictor, [], 0).values()
    assert [(spot.x, spot.y) for spot in by_macs.published] == [(n.macs, n.top1) for n in (*OFA_NETWORKS, *KNOWN_NETWORKS)]
    others = Run(measured, replace(run.info, classes=(*names[:-1], "cat")))
    (by_macs,) = read_fronts(others, predictor, [], 0).values()
    assert not by_macs.published


def test_an_imported_predictor_that_prefers_small_images_is_doubted(imported_copy: Path, predictor: Path, tmp_path: Path) -> None:
    run = Run.open(imported_copy)
    tensors = torch.load(predictor, weights_only=True)
    for tensor in tensors.values():
        tensor[:] = 0
    tensors["0.weight"][0, 123] = tensors["2.weight"][0, 0] = tensors["4.weight"][0, 0] = 1  # unit 0 tells 160 pixels
    tensors["6.weight"][0, 0], tensors["6.bias"][0] = -0.03, 0.8
    torch.save(tensors, tmp_path / "acc_predictor.pth")
    made = AccuracyPredictor.from_published(tmp_path / "acc_predictor.pth", run.space, weights_hash=run.weights_hash())
    made.save(imported_copy / "accuracy" / "predictor.safetensors")
    (doubt,) = predictor_doubts(run, load_predictor(run), 0)
    assert "networks 3.0 points lower at 160 than at 156 pixels" in doubt
    tensors["6.weight"][0, 0] = -0.003  # less than what is worth a word
    torch.save(tensors, tmp_path / "acc_predictor.pth")
    made = AccuracyPredictor.from_published(tmp_path / "acc_predictor.pth", run.space, weights_hash=run.weights_hash())
    made.save(imported_copy / "accuracy" / "predictor.safetensors")
    assert predictor_doubts(run, load_predictor(run), 0) == []


def test_problems_are_counted_by_kind(run_copy: Path) -> None:
    kinds = {"image that no row names": 300, "file that cannot be opened": 250, "broken link": 1}
    made = [Problem(f"{reason[:4]}{i}.png", f"left out: {reason}") for reason, count in kinds.items() for i in range(count)]
    made += [Problem(f"a{i}.png", f"kept: a test image nearly the same as b{i}.png", doubtful=True, alike=True) for i in range(2)]
    Run.open(run_copy).save_info(made)
    page = report(run_copy).read_text()
    shown, _, listed = page.partition('id="problems"')[2].partition("</section>")[0].partition("<details>")
    assert "250 × left out: file that cannot be opened: file0.png, file1.png, file2.png, …" in shown
    assert "brok0.png: left out: broken link" in shown
    assert "2 × kept, but nearly the same as a training image: a0.png, a1.png" in shown
    assert shown.count("<li>") == 3
    assert listed.count("<li>") == 200
    assert "and 53 more in problems.jsonl" in listed
    assert "no row names" not in page
    (part,) = (part for part in status(run_copy).parts if part.name == "run")
    assert part.facts["left_out"] == 251


def test_costs(measured: Path) -> None:
    run = Run.open(measured)
    place, table = table_of(measured)
    found = read_costs(run, Metrics((Metric("train", 12, 3.0),)), 384, {place: table})
    rows = read_rows(measured / "accuracy", run.space)
    assert found["accuracy data"][0] == pytest.approx(sum(row.seconds for row in rows))
    assert found["training"][1] == "12 steps, 384 images through a sub-network"
    assert found[f"profile of {table.device.spec}"][1].startswith(f"{len(read_lines(place / 'measurements.jsonl')):,} timings")


def test_several_runs(measured: Path, trained: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(measured, tmp_path / "first"))
    page = report(first, trained)
    assert page == first / "comparison.html"
    assert not (first / "report.html").exists()
    sections = Page(page).sections
    for text in sections["training"], sections["run"]:
        assert "first" in text
        assert trained.name in text
    assert f"{trained.name}: No device was measured yet." in sections["latency"]
    assert f"ofa profile {trained}" in sections["latency"]
    (tmp_path / "b").mkdir()
    twin = Path(shutil.copytree(trained, tmp_path / "b" / "first"))
    text = report(first, twin).read_text(encoding="utf-8")
    assert f"<h1>{first}, {twin}</h1>" in text  # one name would not tell them apart


def test_an_unfinished_training_says_how_to_go_on(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "supernet.safetensors").unlink()
    section = Page(report(run)).sections["training"]
    assert "The training has not finished: step" in section
    assert f"ofa train digits --out {run} --resume" in section


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", '{"event": "train", "step": 3}\n'),
        ("metrics.jsonl", '{"step": "many"}\n'),
        ("schedule.json", "{}"),
        ("schedule.json", "no JSON"),
        ("problems.jsonl", '{"name": "a.jpg"}\n'),
        ("searches.jsonl", '{"arch": 3}\n'),
        ("front.json", "[]"),
        ("accuracy/errors.json", '{"checked": 3}'),
        ("accuracy/predictor.safetensors", "no tensors"),
        ("accuracy/part-00000.parquet", "no table"),
        ("latency/*/table.json", "{}"),
        ("specialised/mine.json", "{}"),
        ("specialised/mine.json", "[1]"),
        ("run.json", '{"format": "onceforall.run/99"}'),
    ],
)
def test_damaged_files_are_named(run_copy: Path, name: str, content: str) -> None:
    paths = list(run_copy.glob(name)) or [run_copy / name]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    with pytest.raises(OnceForAllError) as refused:
        report(run_copy)
    assert Path(name).name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (run_copy / "report.html").exists()


def test_what_cannot_be_reported(run_copy: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileError, match="given 2 times: give each run directory once"):
        report(run_copy, run_copy / ".." / run_copy.name)
    with pytest.raises(FileError, match="7 run directories: give 1 to 6"):
        report(*[trained] * 7)
    with pytest.raises(FileError, match="0 run directories"):
        report()
    with pytest.raises(FileError, match="not a run directory"):
        report(trained, tmp_path)
    with pytest.raises(FileError, match="no such file or folder"):
        report(trained, out=tmp_path / "missing" / "page.html")
    assert ofa(["report", str(trained), str(tmp_path / "none")]) == 1
    assert re.fullmatch(r"ofa: .*not a run directory.*\n", capsys.readouterr().err)


def test_several_runs_on_the_command_line(
    trained: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert ofa(["report", str(trained), str(measured), "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(page)}
    assert Page(page).sections["run"]
