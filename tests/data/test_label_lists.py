"""Tables whose images have any number of labels: every way of writing them gives the same matrix; what is doubtful is asked."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import picture, png

from onceforall.data import Augment, Reading, Source, TrainBatches, open_data, open_source
from onceforall.data.divide import first_of, grouped, stratified
from onceforall.data.labels import codes, having, images_of, in_words
from onceforall.data.sources import open_source as opened
from onceforall.errors import DataError

ROWS = [["cat", "dog"], ["dog"], [], ["bird", "cat"], ["cat"], ["bird", "cat", "dog"]]
SEVERAL = Reading(task="multilabel")
MATRIX = [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]]


def photos(root: Path, count: int = len(ROWS)) -> list[str]:
    root.mkdir(exist_ok=True)
    for i in range(count):
        picture(i).save(root / f"{i}.png")
    return [f"{i}.png" for i in range(count)]


def table(root: Path, cells: list[Any], column: str = "tags", name: str = "all.csv") -> Path:
    names = photos(root, len(cells))
    path = root / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps({"file_name": n, column: cell}) + "\n" for n, cell in zip(names, cells, strict=True)))
        return path
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", column), *zip(names, cells, strict=True)])
    return path


def matrix_of(source: Source) -> list[list[int]]:
    """In the order of the rows."""
    order = np.argsort([int(Path(name).stem) for name in source.train.names])
    return source.train.labels[order].astype(int).tolist()


@pytest.mark.parametrize("separator", [";", ",", "|", " ", " ; "])
def test_texts_with_a_separator(tmp_path: Path, separator: str) -> None:
    source = open_source(str(table(tmp_path, [separator.join(row) for row in ROWS])), SEVERAL)
    assert source.classes == ("bird", "cat", "dog")
    assert matrix_of(source) == MATRIX
    assert source.train.labels.dtype == np.float32
    assert any("labels are separated by a" in remark and repr(separator.join(ROWS[0])) in remark for remark in source.remarks)
    assert "1 image without any label" in source.remarks


def test_a_row_for_each_label(tmp_path: Path) -> None:
    """Rows that name an image again add their labels, in the same split only; without the task there is one class an image."""
    names, path = photos(tmp_path, 2), tmp_path / "all.csv"
    path.write_text("file_name,tag\n" + "".join(f"{names[i]},{tag}\n" for i, tag in ((0, "a"), (1, "b"), (0, "b"), (0, "a"))))
    source = open_source(str(path), Reading("tag", task="multilabel"))
    assert source.train.labels.tolist() == [[1, 1], [0, 1]]
    assert "1 row with more labels of an image that another row names: it has all of them" in source.remarks
    assert source.left_out["row of an image that another row names"] == ["all.csv[4] 0.png"]
    with pytest.raises(DataError, match="is in rows 1 and 3 as a and b: keep one, or --task multilabel takes both"):
        open_source(str(path), Reading("tag"))


@pytest.mark.parametrize("column", ["labels", "tags", "categories", "label"])
def test_lists(tmp_path: Path, column: str) -> None:
    for kind, cells in (("a.jsonl", ROWS), ("b.csv", [json.dumps(row) for row in ROWS]), ("c.csv", [str(row) for row in ROWS])):
        source = open_source(str(table(tmp_path, cells, column, kind)), SEVERAL)
        assert (source.classes, matrix_of(source)) == (("bird", "cat", "dog"), MATRIX)


def test_names_with_spaces_stay_whole_beside_another_separator(tmp_path: Path) -> None:
    source = open_source(str(table(tmp_path, ["polar bear;seal", "seal", "polar bear"])), SEVERAL)
    assert source.classes == ("polar bear", "seal")


def test_a_column_for_each_label(tmp_path: Path) -> None:
    names = photos(tmp_path)
    rows = [
        ("file_name", "dog", "cat", "bird", "width"),
        *((n, d, c, b or "", 9) for n, (b, c, d) in zip(names, MATRIX, strict=True)),
    ]
    with open(tmp_path / "all.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    path = str(tmp_path / "all.csv")
    source = open_source(path, Reading("cat, dog,bird", task="multilabel"))
    assert source.classes == ("cat", "dog", "bird")  # in the order in which they are asked for
    assert matrix_of(source) == [[c, d, b] for b, c, d in MATRIX]
    with pytest.raises(DataError, match="--label dog,cat,bird names several columns: --task multilabel takes one for each label"):
        open_source(path, Reading("dog,cat,bird"))
    with pytest.raises(DataError, match="--task multilabel --label dog,cat,bird takes its columns of 0 and 1"):
        open_source(path)
    with pytest.raises(DataError, match="or --label dog,cat,bird, its columns of 0 and 1"):
        open_source(path, SEVERAL)
    with pytest.raises(DataError, match="no column 'cow'"):
        open_source(path, Reading("dog,cow", task="multilabel"))
    with pytest.raises(DataError, match="row 1, column width, has '9': with a column for each label, 0 and 1 are expected"):
        open_source(path, Reading("dog,width", task="multilabel"))


@pytest.mark.parametrize("separator", [";", "|", ","])
def test_lists_are_not_taken_for_classes(tmp_path: Path, separator: str) -> None:
    cells = [separator.join(row) for row in [*ROWS[:2], ["cat"], *ROWS[3:], ["dog", "cat"], ["cat", "bird"]]]
    path = str(table(tmp_path, cells, "label"))
    with pytest.raises(DataError, match=r"the column label holds lists of labels, such as .*: --task multilabel takes several"):
        open_source(path)
    assert len(opened(path, Reading(task="multiclass")).classes) == len(set(cells))
    assert open_source(path, SEVERAL).classes == ("bird", "cat", "dog")


def test_names_with_commas_are_classes(tmp_path: Path) -> None:
    cells = ["tench, Tinca tinca", "goldfish, Carassius auratus"] * 3
    assert len(open_source(str(table(tmp_path, cells, "label"))).classes) == 2


def test_what_is_not_told_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--task multilabel --label tags takes several labels per image"):
        open_source(str(table(tmp_path / "a", ["cat;dog", "cat"])))
    with pytest.raises(
        DataError, match=r"what separates its labels, a semicolon or a comma \('cat;dog' and 'cat,bird'\)\? Use only one"
    ):
        open_source(str(table(tmp_path / "b", ["cat;dog", "cat,bird"])), SEVERAL)
    with pytest.raises(DataError, match=r"row 1 has several labels.*--task multilabel takes lists"):
        open_source(str(table(tmp_path / "c", [["a", "b"]], "label", "all.jsonl")))
    with pytest.raises(DataError, match=r"row 1 has '\[cat, dog\]', which is not a list"):
        open_source(str(table(tmp_path / "d", ["[cat, dog]"])), SEVERAL)
    with pytest.raises(DataError, match="its images have one class each: --task multilabel takes tables"):
        open_source("digits", SEVERAL)


@pytest.mark.parametrize(
    "cells",
    [
        [f"[{' '.join(repr(name) for name in row)}]" for row in ROWS],  # numpy: Python would join 'cat' 'dog'
        [f"({', '.join(repr(name) for name in row)}{',' * (len(row) == 1)})" for row in ROWS],
        [f"{{{', '.join(repr(name) for name in row)}}}" for row in ROWS],
    ],
    ids=["numpy", "tuples", "sets"],
)
def test_lists_as_programs_print_them(tmp_path: Path, cells: list[str]) -> None:
    source = open_source(str(table(tmp_path, [cell.replace("{}", "") for cell in cells])), SEVERAL)
    assert (source.classes, matrix_of(source)) == (("bird", "cat", "dog"), MATRIX)
    assert "labels are separated" not in str(source.remarks)
    with pytest.raises(DataError, match=r"holds lists of labels.*--task multilabel"):
        open_source(str(table(tmp_path, ["['cat']", "['dog' 'cat']", "['dog']"], "label")))


@pytest.mark.parametrize("cells", [MATRIX, [";".join(map(str, row)) for row in MATRIX], [str(row) for row in MATRIX]])
def test_a_0_or_1_for_each_label_is_no_list_of_two_labels(tmp_path: Path, cells: list[Any]) -> None:
    with pytest.raises(DataError, match=r"holds 0 or 1 for each of 3 labels, such as .*a column for each label"):
        open_source(str(table(tmp_path, cells, name="all.jsonl")), SEVERAL)
    pq.write_table(pa.table({"image": [png(i) for i in range(len(ROWS))], "labels": cells}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="holds 0 or 1 for each of 3 labels"):
        open_source(str(tmp_path / "train.parquet"), SEVERAL)


def test_counts_of_a_label_are_no_list(tmp_path: Path) -> None:
    for cell in ('{"cat": 1, "dog": 0}', "{cat,dog}"):
        with pytest.raises(DataError, match="which is not a list"):
            open_source(str(table(tmp_path, [cell] * 4)), SEVERAL)


def test_annotations_of_several_categories(tmp_path: Path) -> None:
    names, classes = photos(tmp_path), ["cat", "dog", "bird"]
    annotations = [{"image_id": i, "category_id": classes.index(name)} for i, row in enumerate(ROWS) for name in [*row, *row[:1]]]
    data = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(data))
    source = open_source(str(tmp_path / "coco.json"), SEVERAL)
    assert (source.classes, matrix_of(source)) == (("bird", "cat", "dog"), MATRIX)
    with pytest.raises(DataError, match="an image may have one class; --task multilabel takes several labels"):
        open_source(str(tmp_path / "coco.json"))


FEATURES = {"names": ["cat", "dog", "bird"], "_type": "ClassLabel"}
NUMBERS = [[FEATURES["names"].index(name) for name in row] for row in ROWS]
PARQUET: dict[str, dict[str, Any]] = {
    "lists of names": {"tags": ROWS},
    "texts": {"tags": [",".join(row) or None for row in ROWS]},
    "numbers of names": {"labels": NUMBERS},
    "columns": {"bird": [row[0] for row in MATRIX], "cat": [bool(row[1]) for row in MATRIX], "dog": [row[2] for row in MATRIX]},
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(tmp_path: Path, kind: str) -> None:
    columns = {"image": [png(i) for i in range(len(ROWS))], **PARQUET[kind]}
    found = pa.table(columns)
    if kind == "numbers of names":
        features = {"labels": {"feature": FEATURES, "_type": "Sequence"}}
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(found, tmp_path / "train.parquet")
    label = "bird,cat,dog" if kind == "columns" else None
    source = open_source(str(tmp_path), Reading(label, task="multilabel"))
    assert source.classes == ("bird", "cat", "dog")
    assert source.train.labels.astype(int).tolist() == MATRIX
    if kind == "texts":
        with pytest.raises(DataError, match="--task multilabel"):
            open_source(str(tmp_path), Reading("tags"))
    elif kind != "columns":
        with pytest.raises(DataError, match="--task multilabel takes lists"):
            open_source(str(tmp_path))


def test_chosen_and_merged_labels(tmp_path: Path) -> None:
    path = str(table(tmp_path, [";".join(row) for row in ROWS]))
    source = open_source(path, Reading(classes=(("pet", ("cat", "dog")), ("bird", ("bird",))), task="multilabel"))
    assert matrix_of(source) == [[max(c, d), b] for b, c, d in MATRIX]
    source = open_source(path, Reading(classes=(("dog", ("dog",)), ("cat", ("cat",))), task="multilabel"))
    assert matrix_of(source) == [[d, c] for b, c, d in MATRIX]
    assert "--classes leaves out bird" in source.remarks


def test_splits_keep_every_label_on_each_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[name for name, share in (("rare", 0.08), ("some", 0.3), ("most", 0.8)) if rng.random() < share] for _ in range(160)]
    splits = open_data(str(table(tmp_path, [";".join(row) for row in rows])), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    assert sum(splits.sizes.values()) == 160
    assert [splits.sizes[name] for name in ("held-out", "test")] == pytest.approx([13, 32], abs=2)
    for images, share in ((splits.held_out, 13 / 160), (splits._test, 32 / 160)):
        wanted = share * (splits.train.labels.sum(0) + splits.held_out.labels.sum(0) + splits._test.labels.sum(0))
        assert (np.abs(images.labels.sum(0) - wanted) < 2).all()
        assert (images.labels.sum(0) > 0).all()
    again = open_data(str(tmp_path / "all.csv"), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    assert again.fingerprint == splits.fingerprint
    assert len(splits.train.sample(20)) == 20
    path = table(tmp_path / "odd", [";".join(row) for row in [*rows, ["odd"]]])
    with pytest.raises(DataError, match=r"too few usable train images in 1 of 4 classes: odd \(1\)"):
        open_data(str(path), size=16, cache=tmp_path / "cache", reading=SEVERAL)


def test_division_of_labels() -> None:
    labels = (np.random.default_rng(1).random((300, 4)) < [0.02, 0.2, 0.5, 0.0]).astype(np.float32)
    chosen = stratified(labels, 0.25, np.random.default_rng(0))
    assert len(chosen) == pytest.approx(75, abs=5)
    assert (np.abs(labels[chosen].sum(0) - 0.25 * labels.sum(0)) < 2).all()
    assert len(stratified(labels, 0.25)) == pytest.approx(75, abs=5)
    patients = [f"p{i // 5}" for i in range(300)]
    members = grouped(labels, patients, 0.25, np.random.default_rng(0))
    assert {patients[i] for i in members}.isdisjoint(patients[i] for i in np.setdiff1d(np.arange(300), members))
    assert len(members) == pytest.approx(75, abs=15)


@pytest.mark.parametrize("number", [16, 17, 40, 43, 120, 299, 300, 400])
def test_a_limit_is_exact(number: int) -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((300, 4)) < [0.02, 0.2, 0.5, 0.1]).astype(np.float32)
    chosen = first_of(labels, number, 4)
    assert len(np.unique(chosen)) == len(chosen) == min(number, 300)
    assert (labels[chosen].sum(0) >= np.minimum(4, labels.sum(0))).all()
    one = rng.choice(7, 300, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.02])
    few = first_of(one, max(number, 28), 4)
    assert len(np.unique(few)) == min(max(number, 28), 300)
    assert (np.bincount(one[few], minlength=7) >= np.minimum(4, np.bincount(one))).all()
    assert (few == np.sort(few)).all()
    for label in range(7):  # the first ones
        members = np.flatnonzero(one == label)
        assert (few[one[few] == label] == members[: (one[few] == label).sum()]).all()


def test_equal_pixels_with_other_labels_are_told(tmp_path: Path) -> None:
    rows = [["cat", "dog"], ["cat"], ["dog"], []] * 8
    path = table(tmp_path, [";".join(row) for row in rows])
    picture(0).save(tmp_path / "1.png")
    splits = open_data(str(path), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    assert sum(problem.doubtful for problem in splits.problems) == 2
    assert any("of label cat, with the pixels of 0.png of label cat, dog" in problem.reason for problem in splits.problems)


def test_shapes_of_labels() -> None:
    one, several = np.array([0, 2, 2]), np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], np.float32)
    assert images_of(one, 4).tolist() == [1, 0, 2, 0]
    assert images_of(several, 3).tolist() == [1, 2, 2]
    assert having(several, np.array([1])).tolist() == [False, True, True]
    assert having(one, np.array([0])).tolist() == [True, False, False]
    assert len(set(codes(several).tolist())) == 2
    assert (in_words(several[1], ["a", "b", "c"]), in_words(0 * several[1], ["a"]), in_words(one[0], ["a"])) == (
        "label b, c",
        "label none",
        "class a",
    )


def test_mixed_images_have_shares_of_labels(tmp_path: Path) -> None:
    splits = open_data(str(table(tmp_path, ["a;b", "a", "b", ""] * 12)), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    for mixing in ({"mixup": 0.4}, {"cutmix": 1.0}):
        plain = TrainBatches(splits.train, 8, 0, Augment(), classes=2).batch(0, 8)[1]
        shares = TrainBatches(splits.train, 8, 0, Augment(**mixing), classes=2).batch(0, 8)[1]
        assert plain.dtype == shares.dtype == torch.float32
        assert (plain.shape, shares.shape) == ((8, 2), (8, 2))
        assert torch.allclose(shares.sum(0), plain.sum(0), atol=1e-4)  # each image gives what another one gets
