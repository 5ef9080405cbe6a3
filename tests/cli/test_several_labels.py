"""`--task multilabel` from a table of photographs with several labels each to networks that tell them, by the commands."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import onceforall
from onceforall.cli import run
from onceforall.common.files import read_json, read_lines
from onceforall.data.formats.table_files import read_table
from onceforall.errors import DataError, TrainingError
from onceforall.pipeline import Run, classify, train
from onceforall.tasks.label_scores import best_thresholds
from several_labels import SHAPES, shapes_table

SPACE = {"width": 0.1, "resolutions": (16,), "depths": (1, 2), "kernels": (3, 5), "expand_ratios": (2,)}
SPACE_TEXT = "width=0.1,resolutions=16,depths=1/2,kernels=3/5,expand_ratios=2"
TRAINING = ["--preset", "digits", "--space", SPACE_TEXT, "--scheme", "single_path", "--epochs", "12"]
TRAINING += ["--batch-size", "16", "--holdout", "0.25"]
NAMES = tuple(SHAPES)
Numbers = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_table(tmp_path_factory.mktemp("shapes"), size=20)


@pytest.fixture(scope="module")
def several(own_cache: None, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After training and predicting."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", str(table), "--task", "multilabel", "--label", "tags", *TRAINING, "--out", str(out)]) == 0
    assert run(["predict", str(out), "--subnets", "16"]) == 0
    return out


@pytest.fixture(scope="module")
def taken(several: Path) -> Path:
    """A network that was taken home, its ONNX file with a sigmoid."""
    out = several.parent / "net"
    options = ["--macs", "200k", "--export", "onnx", "--softmax", "--readers", "none", "--finetune", "1"]
    assert run(["specialise", str(several), *options, "--finalists", "1", "--out", str(out)]) == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def said(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    """What a command prints."""
    capfd.readouterr()
    assert run(list(words)) == code
    return capfd.readouterr()


def answers(
    export: Path, table: Path, names: list[str], format: str = "pytorch"
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Labels and probabilities of photographs, both by name."""
    own = {row["file_name"]: row.get("tags", "").split(";") for row in read_table(table).rows}
    photos = [table.parent / name for name in names]
    found = [dict(result.classes) for result in classify(export, photos, format=format, top=len(NAMES))]
    return np.array([[n in own[name] for n in NAMES] for name in names]), np.array([[f[n] for n in NAMES] for f in found])


def test_training_goes_by_map(several: Path) -> None:
    opened = Run.open(several)
    assert (opened.metric, opened.info.classes, opened.task.name) == ("map", NAMES, "multilabel")
    validations = [record for record in read_lines(several / "metrics.jsonl") if record["event"] == "validation"]
    assert all(record["score"] == record["map"] for record in validations)
    assert all(record["metric"] == "map" for record in validations)
    assert max(record["score"] for record in validations) > 0.6  # chance is 0.4
    losses = [record["loss"] for record in read_lines(several / "metrics.jsonl") if record["event"] == "train"]
    assert losses[-1] < 0.98 * 3 * np.log(2)


def test_evaluating_tells_map_and_each_label(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "evaluate", str(several), "--by-class")
    assert "top-1" not in out
    assert "chance level: mAP" in out
    note = "(at thresholds chosen on these images: too optimistic for others)"
    assert note in out
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["label", *NAMES]
    out, _ = said(capfd, "evaluate", str(several), "--json")
    (record,) = json.loads(out)
    assert record["map"] == pytest.approx(np.mean([one["average_precision"] for one in record["labels"]]))
    assert record["interval"][0] <= record["map"] <= record["interval"][1]
    out, _ = said(capfd, "evaluate", str(several), "--split", "test")
    assert "macro F1" in out
    assert note not in out, "there they are those of the held-out images"
    out, _ = said(capfd, "evaluate", str(several), "--arch", "largest", "--against", "smallest")
    assert "points of mAP" in out
    assert "(bootstrap)" in out
    out, _ = said(capfd, "evaluate", str(several), "--arch", "largest", "--against", "largest", "--json")
    assert json.loads(out)["difference"] == {"map": 0.0, "interval": [0.0, 0.0], "images": 30, "alone": [[], []]}


def test_search_goes_by_map(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "search", str(several), "--macs", "200k", "--finalists", "1")
    assert "held-out mAP" in out
    assert "top-1" not in out
    out, _ = said(capfd, "accuracy", "measure", str(several), "--subnets", "16")
    assert out.splitlines()[-1].startswith("mAP ")


def test_a_bundle(several: Path, table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each network has thresholds of its own; the best is the one of the highest mAP."""
    out, _ = said(capfd, "bundle", str(several), "--arch", "smallest,largest")
    folder = several / "bundle"
    assert "test mAP" in out
    bundle = onceforall.load_bundle(folder)
    splits, opened = Run.open(several).splits(), Run.open(several)
    for name, member in bundle.members.items():
        found = [(bundle(x, name), y) for x, y in opened.eval_batches(splits.held_out, member.arch.resolution)]
        labels, logits = (np.concatenate([pair[i].numpy() for pair in found]) for i in (1, 0))
        precisions = [average_precision_score(labels[:, i], logits[:, i]) for i in range(3)]
        assert (member.metric, member.held_out_score) == ("map", pytest.approx(np.mean(precisions)))
        assert member.thresholds == pytest.approx(best_thresholds(labels, 1 / (1 + np.exp(-logits))).tolist(), abs=1e-4)
        out, _ = said(capfd, "evaluate", str(folder), str(table), "--network", name, "--split", "all", "--json")
        assert [one["threshold"] for one in json.loads(out)[0]["labels"]] == list(member.thresholds)
    best = max(bundle.members.values(), key=lambda member: member.held_out)
    assert bundle.under(params=1e9) == best.name
    photo = str(table.parent / "photos/000.png")
    (record,) = json.loads(said(capfd, "classify", str(folder), photo, "--network", "largest", "--json")[0])
    assert all(one["probability"] >= one["threshold"] for one in record["classes"])
    card = (folder / "README.md").read_text()
    assert "test mAP" in card
    assert "top-1" not in card
    assert f"{folder}: test mAP of 2 networks: smallest " in said(capfd, "status", str(several))[0]
    data = read_json(folder / "bundle.json")
    data["members"][0]["thresholds"] = [0.5]
    (folder / "bundle.json").write_text(json.dumps(data))
    _, err = said(capfd, "classify", str(folder), photo, "--network", "largest", code=1)
    assert "smallest has 1 threshold: make the bundle again" in err
    shutil.rmtree(folder)


def test_a_network_at_home(taken: Path, table: Path, several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = read_json(taken / "config.json")
    assert config["task"] == "multilabel"
    assert config["onnx"]["activation"] == "sigmoid"
    assert len(config["thresholds"]) == 3
    card = (taken / "README.md").read_text()
    assert "top-1" not in card
    assert "| test mAP |" in card
    assert "\n## Training images\n\n`trained_on.json`, if it is in this folder" in card
    assert "or probabilities (sigmoid) for " in card
    assert "Fine-tuned, 1 epoch: held-out mAP" in card
    record = read_json(several / "specialised" / f"{taken.name}.json")
    assert record["test"]["map"] == pytest.approx(np.mean(record["labels"]["average_precision"]))
    for format in ("onnx", "pytorch"):
        out, _ = said(capfd, "evaluate", str(taken), str(table), "--label", "tags", "--split", "all", "--format", format, "--json")
        (found,) = json.loads(out)
        assert found["images"] == 150
        assert [one["threshold"] for one in found["labels"]] == config["thresholds"]
        labels, probabilities = answers(taken, table, [f"photos/{i:03}.png" for i in range(150)], format)
        expected = [average_precision_score(labels[:, i], probabilities[:, i]) for i in range(3)]
        assert found["map"] == pytest.approx(np.mean(expected), abs=1e-3)
        assert found["trained_on"] == Run.open(several).info.images["train"]
    out, err = said(capfd, "evaluate", str(taken), str(table), "--by-class", "--against", str(taken))
    known = (
        f"{taken}: {found['trained_on']} of these images are among those that the network was trained on: accuracy on new ones may"
    )
    assert err.count(known) == 2
    assert "mAP" in out
    assert f"{taken} and {taken} are the same network" in out
    assert "top-1" not in out


def test_thresholds_are_those_of_the_held_out_images(taken: Path, table: Path, several: Path) -> None:
    held_out = Run.open(several).splits().held_out
    labels, probabilities = answers(taken, table, held_out.names)
    assert read_json(taken / "config.json")["thresholds"] == pytest.approx(
        best_thresholds(labels, probabilities).tolist(), abs=1e-4
    )


def test_photographs_have_the_labels_above_the_thresholds(taken: Path, table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [f"photos/{i:03}.png" for i in range(12)]
    photos = [str(table.parent / name) for name in names]
    _, probabilities = answers(taken, table, names, "onnx")
    least = np.array(read_json(taken / "config.json")["thresholds"])
    out, _ = said(capfd, "classify", str(taken), *photos, "--json")
    for found, own in zip(json.loads(out), probabilities, strict=True):
        assert {one["name"] for one in found["classes"]} == {NAMES[i] for i in np.flatnonzero(own >= least)}
        assert all(one["probability"] >= one["threshold"] for one in found["classes"])
    out, _ = said(capfd, "classify", str(taken), *photos)
    assert [line.endswith(": no label") for line in out.splitlines()] == (~(probabilities >= least).any(1)).tolist()
    out, _ = said(capfd, "classify", str(taken), photos[0], "--top", "2", "--json")
    assert len(json.loads(out)[0]["classes"]) == 2


def test_the_program_of_the_card(taken: Path, table: Path, tmp_path: Path) -> None:
    """What it prints for a photograph."""
    import contextlib
    import io
    import os
    import sys

    home = Path(shutil.copytree(taken, tmp_path / "home"))
    shutil.copy(table.parent / "photos/000.png", home / "photo.jpg")
    blocks = [block.split("```")[0] for block in (home / "README.md").read_text().split("```python\n")[1:]]
    before, cwd = list(sys.path), Path.cwd()
    try:
        os.chdir(home)
        sys.path.insert(0, str(home))
        for use in blocks[1:3]:
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                exec(blocks[0] + use, {"__name__": "card"})
            (expected,) = classify(home, [home / "photo.jpg"], format="pytorch")
            assert sorted(eval(stream.getvalue())) == sorted(name for name, _ in expected.classes)
    finally:
        os.chdir(cwd)
        sys.path[:] = before
        sys.modules.pop("model", None)
        sys.modules.pop("preprocess", None)


def test_status_and_report(taken: Path, several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "status", str(several))
    assert "held-out mAP: largest" in out
    assert "sub-networks, mAP" in out
    assert "test mAP" in out
    assert "top-1" not in out
    said(capfd, "report", str(several))
    page = (several / "report.html").read_text()
    assert "top-1" not in page
    assert f"Labels of {taken.name}" in page
    assert "mAP on held-out images" in page
    assert "ofa compare" not in page  # which refuses such runs


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["compare", "RUN", "--with", "timm:resnet18"],
            "ofa compare does not support runs of --task multilabel yet: networks that were taken home are compared by ofa",
        ),
        (["train", "TABLE", "--task", "several", "--out", "NEW"], "--task several: choose from multiclass, multilabel"),
        (
            ["train", "TABLE", "--task", "multilabel", "--metric", "top1", "--out", "NEW"],
            "--metric top1 with --task multilabel: choose from map",
        ),
        (["train", "TABLE", "--metric", "map", "--out", "NEW"], "--metric map: choose from top1, balanced, macro_f1"),
        (["train", "TABLE", "--label", "tags", *TRAINING, "--out", "NEW"], "holds lists of labels, such as "),
        (["train", "digits", "--task", "multilabel", "--out", "NEW"], "its images have one class each"),
        (["import", "timm:resnet18", "--data", "TABLE", "--task", "multilabel", "--out", "NEW"], "ofa train "),
        (["evaluate", "NET", "digits"], "was trained with --task multilabel, and digits: its images have one class each"),
        (
            ["evaluate", "NET", "TABLE", "--task", "multiclass"],
            "was trained with --task multilabel, not multiclass: leave --task out",
        ),
        (["train", "TABLE", "--task", "multilabel", "--label", "tags,size", *TRAINING, "--out", "NEW"], "no column 'size'"),
    ],
)
def test_what_is_refused(
    several: Path, taken: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    places = {"RUN": several, "TABLE": table, "NEW": tmp_path / "new", "NET": taken}
    _, err = said(capfd, *(str(places.get(word, word)) for word in words), code=1)
    assert text in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_resume_and_other_ways_of_training(table: Path, tmp_path: Path) -> None:
    """Mixed images, weights of rare labels, every kind of teacher; resumed, the same weights."""
    given: dict[str, Any] = {"reading": onceforall_reading(), "space": SPACE, "preset": "digits", "epochs": 0.5, "batch_size": 16}
    recipe = {"mixup": 0.2, "cutmix": 0.5, "balance": 0.5, "label_smoothing": 0.1}
    for i, scheme in enumerate(("sandwich", "alphanet")):
        found = train(str(table), out=tmp_path / scheme, scheme=scheme, recipe=recipe if i == 0 else None, **given)
        assert (found.folder / "supernet.safetensors").exists()
    assert (
        train(str(table), out=tmp_path / "sandwich", resume=True).weights_hash() == Run.open(tmp_path / "sandwich").weights_hash()
    )
    with pytest.raises(TrainingError, match="other values of --label, --classes, --group, --few or --task"):
        train(str(table), out=tmp_path / "sandwich", resume=True, reading=onceforall_reading(None))


def test_images_decoded_whenever_they_are_needed(table: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"reading": onceforall_reading(), "space": SPACE, "preset": "digits", "epochs": 0.5, "batch_size": 16}
    runs = [train(str(table), out=tmp_path / cache, cache=cache, **given) for cache in ("decoded", "none")]
    assert runs[0].weights_hash() == runs[1].weights_hash()


def test_a_classifier_alone_from_a_run(several: Path, tmp_path: Path) -> None:
    """Of merged labels on other photographs, by a regression on the features of the run's largest network."""
    table = shapes_table(tmp_path / "others", 100, size=20, seed=1)
    reading = onceforall.data.Reading("tags", (("warm", ("red",)), ("cold", ("blue", "green"))), task="multilabel")
    found = train(str(table), out=tmp_path / "out", from_run=str(several), epochs=0, batch_size=16, reading=reading)
    assert found.info.classes == ("warm", "cold")
    (record,) = [r for r in read_lines(found.folder / "metrics.jsonl") if r["event"] == "validation" and r["subnet"] == "largest"]
    assert record["map"] > 0.6


def test_a_run_of_before_has_one_class_an_image(several: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(several, tmp_path / "old"))
    data = read_json(old / "run.json")
    del data["data"]["reading"]["task"]
    data["metric"] = "top1"
    (old / "run.json").write_text(json.dumps(data))
    assert Run.open(old).task.name == "multiclass"
    with pytest.raises(DataError):
        Run.open(old).splits()


def onceforall_reading(task: str | None = "multilabel") -> Any:
    return onceforall.data.Reading("tags", task=task)
