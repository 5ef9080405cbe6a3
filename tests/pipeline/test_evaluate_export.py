"""Exported folders on labelled images of any kind, against what `ofa classify` says of each image."""

import csv
import shutil
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_classify import CLASSES, export, supernet

from onceforall.data import open_data
from onceforall.data.originals import Load, Read, small
from onceforall.data.reading import Reading, classes_of_text
from onceforall.errors import DataError, FileError
from onceforall.export.trained_on import TRAINED_ON, AmongTrained, TrainedOn, write_trained_on
from onceforall.pipeline import classify
from onceforall.pipeline.evaluate_export import ExportScores, evaluate_exports
from onceforall.scores import Difference
from tiny_run import edited

__all__ = ["export", "supernet"]


def evaluate_export(export: Path, data: str, **options: Any) -> ExportScores:
    (found,) = evaluate_exports([export], data, **options)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for split, n in (("train", 6), ("test", 4)):
        for name in ("cat", "dog", "fifth"):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                low = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
                Image.fromarray(low).resize((50, 40)).save(root / split / name / f"{i}.png")
    return root


def test_as_classify_says(export: Path, data: Path) -> None:
    found = evaluate_export(export, str(data))
    assert (found.part, found.format, found.classes, found.confusion.images) == ("test", "onnx", CLASSES, 12)
    photos = [data / name for name in found.names]
    said = [result.classes[0] for result in classify(export, photos)]
    right = [name == photo.parent.name for (name, _), photo in zip(said, photos, strict=True)]
    assert found.right.tolist() == right
    assert found.confusion.top1 == np.mean(right)
    assert found.confusion.confidence[2].sum() == pytest.approx(sum(share for _, share in said), rel=1e-6)
    assert evaluate_export(export, str(data), part="all", format="pytorch").confusion.images == 30
    assert evaluate_export(export, str(data / "train")).part == "all"


def test_other_forms_of_data_say_the_same(export: Path, data: Path, tmp_path: Path) -> None:
    folder = evaluate_export(export, str(data / "test"))
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        for path in (data / "test").rglob("*.png"):
            archive.write(path, path.relative_to(data / "test"))
    with open(tmp_path / "test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([str(path), path.parent.name] for path in (data / "test").rglob("*.png"))
    for other in ("test.zip", "test.csv"):
        assert (evaluate_export(export, str(tmp_path / other)).confusion.counts == folder.confusion.counts).all()


def renamed(export: Path, to: Path, name: str) -> Path:
    """A copy of the export whose first class is called otherwise."""
    shutil.copytree(export, to)
    edited(to / "config.json", lambda config: config["classes"].__setitem__(config["classes"].index("cat"), name))
    return to


def test_classes_are_the_same_in_any_form_of_unicode(export: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "test", tmp_path / "mac")
    (tmp_path / "mac" / "cat").rename(tmp_path / "mac" / unicodedata.normalize("NFD", "café"))
    found = evaluate_export(renamed(export, tmp_path / "export", "café"), str(tmp_path / "mac"))
    assert found.confusion.counts.sum() == 12
    assert found.confusion.top1 == evaluate_export(export, str(data / "test")).confusion.top1


def test_classes_of_one_name_are_not_matched_by_it(export: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several classes are called dog, there or in .*: give each its own name"):
        evaluate_export(
            renamed(export, tmp_path / "export", "dog"), str(data / "test"), reading=Reading(classes=classes_of_text("dog,fifth"))
        )


def test_two_networks_on_the_same_images(export: Path, data: Path) -> None:
    first, second = evaluate_exports([export, export], str(data))
    same = Difference.of(first.right, second.right)
    assert (same.gained, same.lost, same.images, same.chance) == (0, 0, 12, 1.0)
    better = Difference.of(np.ones(12, bool), np.zeros(12, bool))
    assert (better.gained, better.lost) == (12, 0)
    assert better.chance == pytest.approx(2 * 0.5**12)
    np.testing.assert_array_equal(first.right, first.wanted == first.predicted)


def test_networks_that_number_their_classes_differently(export: Path, data: Path, tmp_path: Path) -> None:
    """The same outputs under names in the reverse order: other answers to the same question, in one numbering."""
    other = Path(shutil.copytree(export, tmp_path / "other"))
    edited(other / "config.json", lambda config: config["classes"].reverse())
    one, reverse = evaluate_exports([export, other], str(data))
    np.testing.assert_array_equal(one.wanted, reverse.wanted)
    np.testing.assert_array_equal(one.predicted, len(CLASSES) - 1 - reverse.predicted)
    assert one.confusion is not None
    assert reverse.confusion is not None
    for scores in (one, reverse):
        np.testing.assert_array_equal(scores.right, scores.wanted == scores.predicted)
    difference = Difference.between("top1", one.wanted, one.predicted, reverse.predicted)
    assert difference.top1 == pytest.approx(one.confusion.top1 - reverse.confusion.top1)


def test_images_that_the_network_was_trained_on_are_counted(export: Path, data: Path, tmp_path: Path) -> None:
    assert evaluate_export(export, str(data)).trained_on == AmongTrained(), "not known"
    splits = open_data(str(data), size=24, cache=tmp_path / "cache", reading=Reading(few=True))
    own = Path(shutil.copytree(export, tmp_path / "own"))
    write_trained_on(own, TrainedOn.of(splits.train.digests, 24, None, complete=True))
    assert evaluate_export(own, str(data), part="all").trained_on == AmongTrained(len(splits.train), complete=True)
    assert evaluate_export(own, str(data)).trained_on == AmongTrained(0, complete=True)
    assert evaluate_export(own, str(data)).confusion.counts.tolist() == evaluate_export(export, str(data)).confusion.counts.tolist()
    write_trained_on(own, TrainedOn.of(splits.train.digests, 24, None, complete=False))
    assert evaluate_export(own, str(data), part="all").trained_on == AmongTrained(len(splits.train))
    assert evaluate_export(own, str(data)).trained_on == AmongTrained(), "no image is known, and others may have been trained on"
    (own / TRAINED_ON).write_text(
        '{"format": "onceforall.trained-on/1", "size": 24, "max_pixels": null, "images": 3, "hashes": "a"}'
    )
    with pytest.raises(FileError, match=r"trained_on\.json: damaged \(.*\): remove it, or export the network again"):
        evaluate_export(own, str(data))


def test_of_very_many_images_some_hashes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = np.frombuffer(np.random.default_rng(0).bytes(16 * 500), "V16")
    whole = TrainedOn.of(np.concatenate([digests, digests]), 24, None, complete=True)
    assert (whole.images, len(whole.known())) == (500, 500)
    assert whole.known() == {digest.tobytes()[:6] for digest in digests}
    assert TrainedOn.of(digests[:0], 24, None, complete=True).known() == frozenset()
    monkeypatch.setattr("onceforall.export.trained_on.MOST", 100)
    some = TrainedOn.of(digests, 24, None, complete=True)
    assert (some.images, sorted(some.known())) == (500, sorted(whole.known())[:100])
    assert (whole.among(7), whole.among(0)) == (AmongTrained(7, complete=True), AmongTrained(0, complete=True))
    assert (some.among(7), some.among(0)) == (AmongTrained(7, about=35), AmongTrained()), "fewer than there are"
    assert [str(one) for one in (whole.among(7), some.among(700))] == ["7", "at least 700 (about 3,500 by a sample)"]


def test_an_image_is_hashed_once_for_all_networks(
    export: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks that saw images of one size. One that is too large to be hashed is evaluated all the same."""
    splits = open_data(str(data), size=24, cache=tmp_path / "cache", reading=Reading(few=True))
    first, second = (Path(shutil.copytree(export, tmp_path / name)) for name in ("first", "second"))
    for folder in (first, second):
        write_trained_on(folder, TrainedOn.of(splits.train.digests, 24, None, complete=True))
    made = list[int]()

    def shrunk(load: Load, size: int, how: Read) -> np.ndarray:
        made.append(size)
        return small(load, size, how)

    monkeypatch.setattr("onceforall.pipeline.evaluate_export.small", shrunk)
    found = evaluate_exports([first, second], str(data), part="all")
    assert [one.trained_on.known for one in found] == [len(splits.train)] * 2
    assert len(made) == 30
    write_trained_on(second, TrainedOn.of(splits.train.digests, 24, 10, complete=True))
    limited = evaluate_export(second, str(data), part="all")
    assert limited.confusion.counts.tolist() == found[1].confusion.counts.tolist()
    assert (limited.unreadable, limited.trained_on.known) == ((), 0)


def test_lists_for_a_network_of_one_class_an_image(export: Path, data: Path, tmp_path: Path) -> None:
    rows = "".join(f"{path},cat;dog\n" for path in sorted((data / "test").rglob("*.png")))
    (tmp_path / "lists.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(
        DataError, match=r"was trained with --task multiclass, and .*lists\.csv: the column label holds lists of labels"
    ):
        evaluate_export(export, str(tmp_path / "lists.csv"))


def test_another_error_says_nothing_of_tasks(export: Path, tmp_path: Path) -> None:
    (tmp_path / "of --task sorting").mkdir()
    with pytest.raises(DataError, match=r"of --task sorting: ") as found:
        evaluate_export(export, str(tmp_path / "of --task sorting"))
    assert "was trained with --task multiclass" not in str(found.value)


def test_a_folder_of_one_class_is_that_class(export: Path, data: Path, tmp_path: Path) -> None:
    for name in ("indoor", "outdoor"):
        shutil.copytree(data / "test" / "cat", tmp_path / "cats" / "cat" / name)
    assert evaluate_export(export, str(tmp_path / "cats")).confusion.counts.sum(1).tolist() == [8, 0, 0, 0, 0, 0, 0]


def test_classes_are_matched_by_name(export: Path, data: Path) -> None:
    renamed = Reading(classes=classes_of_text("dog=cat,ü=dog,<b>=fifth"))
    found = evaluate_export(export, str(data), reading=renamed)
    assert found.confusion.counts.sum(1).tolist() == [0, 4, 0, 4, 4, 0, 0]
    odd = Reading(classes=classes_of_text("dog=cat,horse=dog"))
    with pytest.raises(DataError, match=r"has images of horse, which .* does not know \(its classes: cat, dog"):
        evaluate_export(export, str(data), reading=odd)


def test_what_cannot_be_read_is_told(export: Path, data: Path, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    with pytest.raises(DataError, match=r"none of 2 images can be read: cat/broken\.png: "):
        evaluate_export(export, str(tmp_path))
    Image.new("RGB", (40, 40)).save(tmp_path / "cat" / "black.png")
    found = evaluate_export(export, str(tmp_path))
    assert found.names == ("cat/black.png",)
    assert [name for name, _ in found.unreadable] == ["cat/broken.png", "dog/broken.png"]
    with pytest.raises(DataError, match="has no held-out images: give --split train or all"):
        evaluate_export(export, str(tmp_path), part="held-out")
    with pytest.raises(DataError, match="--split val: use train, test, held-out, all"):
        evaluate_export(export, str(tmp_path), part="val")
