"""Labels, classes, groups and the metric of a run, from its training to its search."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onceforall import load_bundle
from onceforall.accuracy import read_rows
from onceforall.cli import run as ofa
from onceforall.common.progress import Progress
from onceforall.common.readable import percent
from onceforall.data import Reading, classes_of_text
from onceforall.errors import DataError, TrainingError
from onceforall.options.presets import PRESETS
from onceforall.pipeline import Run, evaluate, measure_accuracy, train
from onceforall.pipeline.training.beginning import Beginning
from onceforall.train import Schedule
from tiny_run import TRAINING


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 dark, 60 bright and 8 striped images of three classes, in two columns of labels."""
    root, rng, rows = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), []
    for name, n in (("dark", 24), ("bright", 60), ("striped", 8)):
        for i in range(n):
            pixels = rng.integers(0, 120, (40, 40, 3)) + (120 if name == "bright" else 0)
            pixels[::4] += 100 * (name == "striped")
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{name}-{i}.png")
            rows.append(
                {"file_name": f"{name}-{i}.png", "label": name, "kind": "plain" if name != "striped" else "other", "lot": i // 2}
            )
    path = root / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_uneven_classes_from_a_table_to_predictor_rows(table: Path, tmp_path: Path) -> None:
    reading, events = Reading(group="lot", few=True), []
    run = train(
        str(table),
        out=tmp_path / "run",
        reading=reading,
        **TRAINING | {"epochs": 6.0, "batch_size": 16, "limit": None},
        progress=Progress(event=events.append),
    )
    assert run.metric == "balanced"
    assert any("networks are chosen by balanced accuracy" in event.get("text", "") for event in events)
    assert any("trained for balanced accuracy: they predict rare classes more often" in event.get("text", "") for event in events)
    assert Schedule.from_json((run.folder / "schedule.json").read_text()).recipe.logit_adjustment == 0.5
    assert {event["metric"] for event in events if event["event"] == "validation"} == {"balanced"}
    again = Run.open(tmp_path / "run")
    assert again.require_images().reading == reading
    splits = again.splits()
    assert not set(splits.train.groups or ()) & set(splits.held_out.groups or ())
    rows = measure_accuracy(run.folder, subnets=3)
    assert read_rows(run.folder / "accuracy", run.space) == rows
    (found,) = evaluate(run.folder, arch=str(_arch(tmp_path, rows[0].arch.to_json())))
    assert rows[0].value == pytest.approx(found.accuracy.balanced, abs=1e-6)
    with pytest.raises(TrainingError, match="was started with other values of --label, --classes, --group, --few or --task"):
        train(str(table), out=tmp_path / "run", reading=Reading(label="kind"), resume=True, **TRAINING | {"limit": None})


@pytest.mark.parametrize(
    ("metric", "given", "adjustment"),
    [
        ("balanced", {}, 0.5),
        ("balanced", {"ema": 0.9}, 0.5),
        ("balanced", {"logit_adjustment": 0.0}, 0.0),
        ("balanced", {"balance": 0.5}, 0.0),
        ("top1", {}, 0.0),
        ("macro_f1", {}, 0.0),
    ],
)
def test_the_recipe_suits_the_metric(metric: str, given: dict[str, float], adjustment: float) -> None:
    notes: list[str] = []
    begun = Beginning("digits", PRESETS["digits"], PRESETS["digits"].space({}))
    assert begun.for_metric(metric, given, notes.append).preset.recipe.logit_adjustment == adjustment
    assert len(notes) == bool(adjustment)


def _arch(folder: Path, text: str) -> Path:
    (folder / "arch.json").write_text(text)
    return folder / "arch.json"


def _told_by_macro_f1(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command goes by it and says it, with the test score by it wherever there is one of top-1."""

    def said(*words: str) -> str:
        capfd.readouterr()
        assert ofa([words[0], str(run.folder), *words[1:]]) == 0
        return capfd.readouterr().out

    said("predict", "--subnets", "16")
    rows = read_rows(run.folder / "accuracy", run.space)
    assert {row.score for row in rows} != {row.top1 for row in rows}
    assert "held-out macro F1" in said("search", "--params", "1M", "--finalists", "1")
    out = said("specialise", "--params", "1M", "--finalists", "1", "--readers", "none")
    record = json.loads((run.folder / "specialised/onnxruntime-1M-params.json").read_text())
    test = f"macro F1 {percent(record['test']['macro_f1'])}, top-1 {percent(record['test']['top1'])}"
    assert re.sub(r" \([\d.]+ % to [\d.]+ %\)", "", out).partition(": test ")[2].startswith(f"{test} (")
    assert out.count(" % to ") == 1
    assert f"| macro F1 | {percent(record['test']['macro_f1'])} |" in (Path(record["folder"]) / "README.md").read_text()
    assert "test macro F1" in said("bundle", "--arch", "smallest,largest")
    bundle = load_bundle(run.folder / "bundle")
    for name, member in bundle.members.items():
        (found,) = evaluate(run.folder, arch=name)
        assert (member.metric, member.held_out_score) == ("macro_f1", pytest.approx(found.accuracy.macro_f1))
    assert bundle.under(params=1e9) == max(bundle.members.values(), key=lambda member: member.held_out_score or 0.0).name
    assert "| test macro F1 | test top-1 (95 % interval) |" in (run.folder / "bundle/README.md").read_text()
    out = said("status")
    assert f": test {test} (" in out
    assert "bundle: test macro F1 of 2 networks: smallest " in out
    assert "; the last, largest: macro F1 " in out
    assert re.search(r"top-1 [\d.]+ % \([\d.]+ % to [\d.]+ %\), loss", said("evaluate"))
    said("report")
    page = (run.folder / "report.html").read_text()
    assert "test macro F1" in page
    assert "macro F1 on test images that were not used for any choice" in page


def test_chosen_classes_and_metric(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reading = Reading(classes=classes_of_text("bright,rest=dark+striped"))
    run = train(
        str(table),
        out=tmp_path / "run",
        reading=reading,
        metric="macro_f1",
        **TRAINING | {"epochs": 6.0, "batch_size": 16, "limit": None},
    )
    assert (run.info.classes, run.metric) == (("bright", "rest"), "macro_f1")
    assert Run.open(run.folder).splits().classes == ("bright", "rest")
    _told_by_macro_f1(run, capfd)
    with pytest.raises(DataError, match="--metric recall: choose from top1, balanced, macro_f1"):
        train(str(table), out=tmp_path / "new", metric="recall", **TRAINING)


def test_runs_of_before_go_by_top1(trained: Path) -> None:
    assert "metric" in json.loads((trained / "run.json").read_text())
    assert Run.open(trained).metric == "top1"
