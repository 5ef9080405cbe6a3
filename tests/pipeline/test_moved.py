"""Images that have moved: `--data` says where they are now, and only the same ones are taken."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onceforall.app import worker
from onceforall.app.server import Explorer
from onceforall.app.web import App
from onceforall.cli import run as ofa
from onceforall.common.files import read_json, reading_or_writing
from onceforall.errors import DataError, FileError, Note, TrainingError
from onceforall.pipeline import Budget, Run, evaluate, report, search, status, train
from onceforall.pipeline.accuracies.measure_accuracy import _opened, measure_accuracy
from onceforall.pipeline.export_original import export_original
from onceforall.pipeline.front import front
from onceforall.pipeline.run_directory.images import gone, lasting_data, of_commit, short_name
from tiny_run import edited, on_pictures, openings, pictures


@pytest.fixture(scope="module")
def before(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its images, which nothing changes."""
    base = tmp_path_factory.mktemp("moved")
    on_pictures(str(pictures(base / "data")), base / "run")
    return base


@pytest.fixture
def moved(before: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run, and the new place of its images; the old one is gone."""
    shutil.copytree(before / "run", tmp_path / "run")
    shutil.copytree(before / "data", tmp_path / "new")
    edited(tmp_path / "run" / "run.json", lambda data: data["data"].update(source=str(tmp_path / "old")))
    return tmp_path / "run", tmp_path / "new"


def test_moved_once_and_for_all(moved: tuple[Path, Path]) -> None:
    run, new = moved
    old = str(new.parent / "old")
    with pytest.raises(DataError, match=r"old: the images are no longer there, and .* give their new place with --data"):
        evaluate(run)
    with pytest.warns(Note, match=rf"from now on its images are read from {new}"):
        (there,) = evaluate(run, data=str(new))
    assert evaluate(run)[0].accuracy == there.accuracy
    known = read_json(run / "run.json")["data"]
    assert (known["source"], known["before"]) == (str(new), [old])
    assert Run.open(run).info.data == Run.open(run, str(new)).info.data


CALLS: dict[str, Callable[[Path, str], Any]] = {
    "measure-accuracy": lambda run, data: measure_accuracy(run, archs=[Run.open(run).space.largest()], data=data),
    "search": lambda run, data: search(run, Budget(macs=1e9), data=data),
    "front": lambda run, data: front(run, data=data),
    "export-original": lambda run, data: export_original(run, data=data),
    "train": lambda run, data: train(data, out=run, resume=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_images_are_not_taken(moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run, new = moved
    monkeypatch.setattr(sys.modules["onceforall.pipeline.search"], "load_predictor", lambda run: None)  # there is none
    (new / "class 0" / "00.jpg").unlink()
    told = (run / "run.json").read_bytes()
    with pytest.raises(DataError, match=r"new: the images are not those .* was trained on \(.* train, .* where it had .*\)"):
        CALLS[name](run, str(new))
    assert (run / "run.json").read_bytes() == told


def test_other_classes_are_seen_before_anything_is_decoded(moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, new = moved
    (new / "class 1").rename(new / "class 9")
    monkeypatch.setattr("onceforall.data.stores.cache_part", lambda *given, **more: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"2 classes, where it had 2, different: class 1, class 9"):
        evaluate(run, data=str(new))


def test_resumed_from_the_new_place(moved: tuple[Path, Path]) -> None:
    run, new = moved
    (run / "supernet.safetensors").unlink()
    (proposed,) = [text for text in status(run).next if text.startswith("ofa train")]
    assert proposed == f"ofa train NEW_PLACE --out {shlex.quote(str(run))} --resume"
    with pytest.raises(TrainingError, match="not on digits: resume with the same data"):
        train("digits", out=run, resume=True)
    with pytest.warns(Note, match="from now on its images are read from"):
        train(str(new), out=run, resume=True)
    assert "images" not in {part.name for part in status(run).parts}


def test_status_sees_that_images_are_gone(moved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, new = moved
    assert ofa(["status", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (part,) = [part for part in found["parts"] if part["name"] == "images"]
    assert part["state"] == "missing"
    assert found["next"][0] == part["command"] == f"ofa evaluate {shlex.quote(str(run))} --data NEW_PLACE"
    assert not any(" predict " in command or " search " in command for command in found["next"])
    assert ofa(shlex.split(found["next"][0].replace("NEW_PLACE", str(new)))[1:]) == 0
    assert f"note: {run}: from now on its images are read from {new}" in capsys.readouterr().err
    assert "images" not in {part.name for part in status(run).parts}


def test_looks_at_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert gone("digits") == gone(str(tmp_path)) == gone(f"torchvision:CIFAR10:{tmp_path}") == ""
    assert gone(str(tmp_path / "empty")).endswith("empty: the images are gone, the folder is empty")
    assert gone(f"torchvision:CIFAR10:{tmp_path / 'no'}").endswith("no: the images are no longer there")
    (tmp_path / "file").touch()
    assert gone(str(tmp_path / "file")) == "", "a table or an archive"


def test_what_cards_call_data() -> None:
    for source, name, commit in (
        ("/a/pets", "pets", ""),
        ("/a/pets.zip", "pets.zip", ""),
        ("digits", "digits", ""),
        ("torchvision:CIFAR10:/a/b", "CIFAR10", ""),
        ("hf:me/cats", "me/cats", ""),
        (f"hf:me/cats@{40 * 'a'}:small/1", "me/cats:small/1", 40 * "a"),
    ):
        assert short_name(source) == (name, commit)
        assert of_commit(name, commit) == ([f"The data are commit {commit} of {name} on the Hugging Face Hub."] if commit else [])


def test_no_relative_path_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("./b", "b/", "../a/b", "~/a/b"):
        assert lasting_data(given) == str(tmp_path / "a" / "b")
        assert lasting_data(f"torchvision:CIFAR10:{given}") == f"torchvision:CIFAR10:{tmp_path / 'a' / 'b'}"
    for given in ("digits", "torchvision:CIFAR10", "torchvision:CIFAR10:", "torchvision:CIFAR10:./no", "no"):
        assert lasting_data(given) == given


def test_kept_where_nothing_is_computed(moved: tuple[Path, Path]) -> None:
    """A new place that is given is checked, also by commands that find all done."""
    run, new = moved
    largest = [Run.open(run).space.largest()]
    shutil.copytree(run, before := run.parent / "before")
    with pytest.warns(Note, match="from now on its images are read from"):
        (first,) = measure_accuracy(before, archs=largest, data=str(new))
    shutil.copytree(before / "accuracy", run / "accuracy")
    (new / "class 0" / "00.jpg").rename(new / "00.jpg")
    with pytest.raises(DataError, match="the images are not those"):
        measure_accuracy(run, archs=largest, data=str(new))
    (new / "00.jpg").rename(new / "class 0" / "00.jpg")
    with pytest.warns(Note, match="from now on its images are read from"):
        assert measure_accuracy(run, archs=largest, data=str(new)) == [first]
    assert Run.open(run).require_images().source == str(new)


def test_kept_by_an_export_that_needs_no_images(moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of weights that were imported, which have their statistics."""
    run, new = moved
    monkeypatch.setattr("onceforall.supernets.supernet.Supernet.norms", lambda self: [])
    monkeypatch.setattr(sys.modules["onceforall.pipeline.export_original"], "save_original", lambda supernet, path: None)
    with pytest.warns(Note, match="from now on its images are read from"):
        assert export_original(run, data=str(new)).images is None
    assert Run.open(run).require_images().source == str(new)


def test_a_run_that_cannot_be_written(moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The new place, which run.json does not get, reaches the workers of a cluster and of the explorer all the same."""
    run, new = moved
    monkeypatch.setattr("onceforall.common.records.write_json", _refuse)
    with pytest.warns(Note, match="is not recorded"):
        _, _, splits = _opened.__wrapped__(run, Run.open(run, str(new)).new_place, None, Run.open(run).weights_hash(), "cpu")
    assert len(splits.train) > 0
    explorer = Explorer.listening(run, host="127.0.0.1", port=0, data=str(new))
    explorer.socket.close()
    jobs, given = App(explorer.run).jobs, list[Any]()
    assert jobs.data == str(new)

    def specialise(*own: Any, **named: Any) -> Any:
        given.append(named["data"])
        raise DataError("enough")

    monkeypatch.setattr("onceforall.pipeline.specialise", specialise)
    job = {"arch": explorer.run.space.largest().to_json(), "limits": {}, "device": "cpu", "formats": [], "out": "x"}
    with pytest.raises(DataError, match="enough"):
        worker._export(run, {**job, "data": jobs.data}, lambda text, share: None)
    assert given == [str(new)]
    with pytest.raises(DataError, match="nowhere: the images are no longer there: check --data"):
        Explorer.listening(run, host="127.0.0.1", port=0, data=str(new.parent / "nowhere"))
    assert Run.open(run).new_place is None


def test_a_training_is_not_told_of_an_option_that_it_lacks(moved: tuple[Path, Path]) -> None:
    run, new = moved
    source = str(new.parent / "old")
    (run / "supernet.safetensors").unlink()
    resume = shlex.quote(str(run))
    with pytest.raises(DataError) as gone_now:
        train(source, out=run, resume=True)
    (new / "class 0" / "00.jpg").unlink()
    with pytest.raises(DataError) as others:
        train(str(new), out=run, resume=True)
    for told in (gone_now, others):
        assert f"give their new place: ofa train NEW_PLACE --out {resume} --resume" in str(told.value)
        assert "--data" not in str(told.value)
    with pytest.raises(FileError, match="has not finished: ofa train NEW_PLACE"):
        evaluate(run)
    assert "ofa train NEW_PLACE" in report(run).read_text()


def test_finished_trainings_need_no_images(moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Given again in any spelling of the place where they were."""
    run, new = moved
    monkeypatch.chdir(new.parent)
    for spelling in ("old", "old/", "./old", str(new.parent / "old")):
        assert train(spelling, out=run, resume=True).folder == run
    with pytest.raises(DataError, match="the images are no longer there"):
        train("elsewhere", out=run, resume=True)


def test_imported_without_images(moved: tuple[Path, Path]) -> None:
    run, new = moved
    imported = {"file": "a.pth", "sha256": "0", "name": "ofa_resnet50"}
    edited(run / "run.json", lambda data: data.update(data=None, imported=imported))
    with pytest.raises(DataError, match="was imported without images"):
        evaluate(run, data=str(new))


def test_nothing_is_left_of_a_start_that_fails(tmp_path: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while the run directory is made."""

    def fail(path: Path, data: Any) -> None:
        assert path.name == "run.json"
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr("onceforall.common.records.write_json", fail)
    with pytest.raises(RuntimeError, match="nobody thought of"):
        on_pictures(str(pictures(tmp_path / "data")), tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(RuntimeError, match="nobody thought of"):
        on_pictures(str(tmp_path / "data"), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_test_images_are_not_opened_without_a_word(
    moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it cannot be written down, it is said, once for each purpose."""
    run, new = moved
    for name in ("run_directory.run", "evaluate"):
        monkeypatch.setattr(sys.modules[f"onceforall.pipeline.{name}"], "append_line", _refuse)
    assert ofa(["evaluate", str(run), "--split", "test", "--arch", "random:3", "--data", str(new)]) == 0
    err = capsys.readouterr().err
    assert err.count("test images were opened for 'ofa evaluate --arch random:3' is not recorded: ") == 1
    assert err.count("note: this evaluation is not recorded: ") == 1
    assert openings(run) == []


def _refuse(path: Path, record: dict[str, Any]) -> None:
    with reading_or_writing(path):
        raise PermissionError(13, "Permission denied")
