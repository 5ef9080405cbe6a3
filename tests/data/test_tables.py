"""Tables of images and labels: the same images and classes as the folders that they were made from."""

import csv
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder

from onceforall.data import Source, open_data, open_source
from onceforall.data.formats.label_lists import label_text
from onceforall.data.formats.table_files import read_table
from onceforall.data.originals import Part
from onceforall.data.reading import Reading
from onceforall.errors import DataError, FileError

LAYOUT = {"train": {"cat": 5, "dog": 6}, "test": {"cat": 3, "dog": 2}}


def classes_of(source: Source) -> list[dict[bytes, str]]:
    """For each part its images' classes, by their pixels."""

    def one(part: Part) -> dict[bytes, str]:
        loads = part.read(np.arange(len(part)))
        return {load().tobytes(): source.classes[label] for load, label in zip(loads, part.labels, strict=True)}

    return [one(part) for part in (source.train, source.test, source.held_out) if part is not None]


def rows_of(root: Path) -> list[dict[str, str]]:
    return [
        {"file_name": str(path.relative_to(root)), "label": path.parent.name, "split": path.relative_to(root).parts[0]}
        for path in sorted(root.rglob("*.png"))
    ]


def write_csv(path: Path, rows: list[dict[str, Any]], separator: str = ",", start: str = "") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(start)
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def renamed(rows: list[dict[str, str]], **names: str) -> list[dict[str, str]]:
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


WAYS: dict[str, Callable[[Path, list[dict[str, str]]], Path]] = {
    "csv": lambda root, rows: write_csv(root / "all.csv", rows),
    "semicolons and a mark of the byte order": lambda root, rows: write_csv(root / "all.csv", rows, ";", "\ufeff"),
    "tabs": lambda root, rows: write_csv(root / "all.tsv", rows, "\t"),
    "other names": lambda root, rows: write_csv(
        root / "all.csv", renamed(rows, file_name="Image Path", label="Class", split="subset")
    ),
    "json lines": lambda root, rows: write_lines(root / "all.jsonl", rows),
    "json": lambda root, rows: (root / "all.json", (root / "all.json").write_text(json.dumps(rows)))[0],
    "absolute": lambda root, rows: write_csv(
        root / "all.csv", [{**row, "file_name": str(root / row["file_name"])} for row in rows]
    ),
    "without suffix": lambda root, rows: write_csv(
        root / "all.csv", [{**row, "file_name": row["file_name"].removesuffix(".png")} for row in rows]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_the_folder_that_it_was_made_from(make_folder: MakeFolder, way: str) -> None:
    root = make_folder(LAYOUT)
    source = open_source(str(WAYS[way](root, rows_of(root))))
    assert source.classes == ("cat", "dog")
    assert classes_of(source) == classes_of(open_source(str(root)))
    assert not source.left_out
    assert not source.remarks


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("by_split", [False, True])
def test_metadata_beside_images_as_the_hub_has_it(make_folder: MakeFolder, tmp_path: Path, kind: str, by_split: bool) -> None:
    root = make_folder(LAYOUT)
    loose = tmp_path / "loose"
    rows = []
    for row in rows_of(root):
        name = row["file_name"].replace(os.sep, "-")
        folder = loose / row["split"] if by_split else loose
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / row["file_name"], folder / name)
        rows.append({"file_name": name, "label": row["label"], "split": row["split"]})
    write = write_csv if kind == "csv" else write_lines
    for split in ("train", "test") if by_split else ():
        chosen = [{k: v for k, v in row.items() if k != "split"} for row in rows if row["split"] == split]
        write(loose / split / f"metadata.{kind}", chosen)
    if not by_split:
        write(loose / f"metadata.{kind}", rows)
    assert classes_of(open_source(str(loose))) == classes_of(open_source(str(root)))


def test_a_table_for_each_split(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, rows = make_folder(LAYOUT), rows_of(make_folder(LAYOUT, "again"))
    loose = tmp_path / "loose"
    (loose / "images").mkdir(parents=True)
    for row in rows:
        shutil.copy(root / row["file_name"], loose / "images" / row["file_name"].replace(os.sep, "-"))
    for split in ("train", "test"):
        chosen = [
            {"image_id": r["file_name"].replace(os.sep, "-").removesuffix(".png"), "label": r["label"]}
            for r in rows
            if r["split"] == split
        ]
        write_csv(loose / f"{split}.csv", chosen)
    source = open_source(str(loose))
    assert classes_of(source) == classes_of(open_source(str(root)))
    assert "images are found by name below" in source.remarks[0]


def test_coco(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    files = sorted(root.rglob("*.png"))
    data = {
        "images": [{"id": i, "file_name": str(path.relative_to(root))} for i, path in enumerate(files)],
        "annotations": [{"image_id": i, "category_id": 7 if path.parent.name == "cat" else 9} for i, path in enumerate(files)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    table = root / "annotations.json"
    table.write_text(json.dumps(data))
    assert classes_of(open_source(str(table))) == classes_of(open_source(str(root)))
    data["annotations"].append({"image_id": 0, "category_id": 9})
    table.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"annotations of several categories \(1 such image\)"):
        open_source(str(table))


def test_which_column(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    rows = [
        {"file_name": row["file_name"], "fine_label": row["label"], "coarse": "animal" if i % 2 else "beast"}
        for i, row in enumerate(rows_of(root))
    ]
    table = str(write_csv(root / "all.csv", rows))
    assert open_source(table).classes == ("cat", "dog")
    assert open_source(table, Reading(label="coarse")).classes == ("animal", "beast")
    with pytest.raises(DataError, match=r"no column 'colour': choose from file_name, fine_label, coarse"):
        open_source(table, Reading(label="colour"))
    with pytest.raises(DataError, match=r"file_name is the column of paths: choose another one with --label, such as fine_label"):
        open_source(table, Reading(label="file_name"))
    with pytest.raises(DataError, match=r"al\.csv: no such file: did you mean \S*all\.csv\?"):
        open_source(table.replace("all.csv", "al.csv"))
    with pytest.raises(DataError, match=r"no column of labels: name it with --label NAME"):
        open_source(str(write_csv(root / "all.csv", [{"file_name": row["file_name"], "colour": "red"} for row in rows])))
    with pytest.raises(
        DataError, match=r"no column of images: call the column of their paths file_name; the columns are label, colour"
    ):
        open_source(str(write_csv(root / "all.csv", [{"label": "a", "colour": "red"}])))
    two = write_csv(root / "all.csv", [{**row, "label": row["coarse"]} for row in rows])
    assert "labels are those of the column label, not of fine_label (--label NAME for another)" in open_source(str(two)).remarks


def test_numbers_are_ordered_as_numbers(make_folder: MakeFolder) -> None:
    root = make_folder({"2": 3, "10": 4, "1": 2})
    rows = [{"file_name": row["file_name"], "label": row["label"]} for row in rows_of(root)]
    assert open_source(str(write_csv(root / "all.csv", rows))).classes == ("1", "2", "10")
    lines = [{**row, "label": int(row["label"])} for row in rows]
    assert open_source(str(write_lines(root / "all.jsonl", lines))).classes == ("1", "2", "10")


def test_what_is_left_out_is_told(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    rows = [{k: v for k, v in row.items() if k != "split"} for row in rows_of(root)]
    rows[0]["label"] = ""
    rows[5]["file_name"] = "cat/gone.png"
    table = write_csv(root / "all.csv", [*rows, rows[3]])
    source = open_source(str(table))
    assert {reason: len(names) for reason, names in source.left_out.items()} == {
        "row without a label": 1,
        "missing image that a row names": 1,
        "row of an image that another row names": 1,
        "image that no row names": 1,
    }
    assert source.left_out["missing image that a row names"] == ["cat/gone.png"]


REFUSED: dict[str, Callable[[list[dict[str, str]]], list[dict[str, Any]]]] = {
    r"7 of 7 images of the column file_name do not exist, such as .*else/cat/000\.png": lambda rows: [
        {**row, "file_name": f"else/{row['file_name']}"} for row in rows
    ],
    r"cat/000\.png is in rows 1 and 8 as cat and dog: keep one, or --task multilabel": lambda rows: [
        *rows,
        {**rows[0], "label": "dog"},
    ],
    r"no row has an image and a label in the columns file_name and label": lambda rows: [{**row, "label": ""} for row in rows],
    r"column label holds measurements such as 0\.1, and there is no regression": lambda rows: [
        {**row, "label": f"{i + 0.1}"} for i, row in enumerate(rows)
    ],
    r"no column of images: .* the columns are cat/000\.png, cat: the first line must have their names": lambda rows: [
        dict(zip(rows[0].values(), row.values(), strict=True)) for row in rows[1:]
    ],
    r"what is the split 'fold0', .* in the column split\?": lambda rows: [
        {**row, "split": f"fold{i}"} for i, row in enumerate(rows)
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(make_folder: MakeFolder, message: str) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    rows = [{k: v for k, v in row.items() if k != "split"} for row in rows_of(root)]
    with pytest.raises(DataError, match=message):
        open_source(str(write_csv(root / "all.csv", REFUSED[message](rows))))


def test_what_may_not_be_meant_is_told(make_folder: MakeFolder) -> None:
    """Columns of something else, and texts that are none."""
    root = make_folder({"cat": 6, "dog": 4})
    rows = [{"file_name": row["file_name"], "label": row["label"]} for row in rows_of(root)]
    numbered = [{"id": i, "where": row["file_name"], "label": row["label"]} for i, row in enumerate(rows)]
    with pytest.raises(DataError, match=r"of the column id do not exist, .*; those of the column where do: call it file_name"):
        open_source(str(write_csv(root / "all.csv", numbered)))
    nested = [{"image": {"path": row["file_name"]}, "label": row["label"]} for row in rows]
    with pytest.raises(DataError, match=r"row 1 has \{'path': '.*'\} in the column image: a path is expected"):
        open_source(str(write_lines(root / "all.jsonl", nested)))
    (root / "all.csv").write_text("file_name,label\na.png,café\n", encoding="latin-1")
    with pytest.raises(FileError, match="not a text file in UTF-8: save it as UTF-8"):
        open_source(str(root / "all.csv"))


def test_rows_without_a_group_and_a_single_split_are_told(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    rows: list[dict[str, Any]] = [{**row, "split": "test", "tile": "" if i < 2 else f"t{i}"} for i, row in enumerate(rows_of(root))]
    source = open_source(str(write_csv(root / "all.csv", rows)), Reading(group="tile"))
    assert len(set(source.train.groups or ())) == 7
    assert source.remarks == (
        "2 rows without a value in the column tile: each is a group of its own",
        "all images are of the split 'test' in the column split: they are split again",
    )
    lines = [{**row, "tile": float("nan") if i < 2 else i} for i, row in enumerate(rows)]
    assert len(set(open_source(str(write_lines(root / "all.jsonl", lines)), Reading(group="tile")).train.groups or ())) == 7


def test_damaged_tables_are_refused_by_the_line(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("file_name,label\na.png,cat,dog\n")
    with pytest.raises(DataError, match="line 2 has 3 cells, the first one 2"):
        open_source(str(path))
    path.write_text("label,label\n")
    with pytest.raises(DataError, match="two columns are called 'label'"):
        open_source(str(path))
    lines = tmp_path / "all.jsonl"
    lines.write_text('{"file_name": "a.png", "label": "b"}\n{"file_na')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        open_source(str(lines))
    lines.write_text('{"file_name": "a.png", "label": ["b", "c"]}\n')
    with pytest.raises(DataError, match="row 1 has several labels"):
        open_source(str(lines))
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="files of this kind hold no labeled images"):
        open_source(str(tmp_path / "a.txt"))


def test_class_folders_win_over_tables_beside_them(make_folder: MakeFolder) -> None:
    for name in ("cat", "7"):
        root = make_folder({name: 3, "12": 4}, f"images-{name}")
        (root / "metadata.csv").write_text("file_name,label\ncat/000.png,horse\n")
        (root / "broken.csv").write_bytes(b"a,\xff\n")
        source = open_source(str(root))
        assert source.classes == ("12", name)
        assert "labels are the names of the folders, not those in metadata.csv" in source.remarks[-1]
    with pytest.raises(DataError, match="its folders are the classes, and --label names a column"):
        open_source(str(root), Reading(label="taste"))
    with pytest.raises(DataError, match="no table of images with a column 'taste'"):
        open_source(str(root / "12"), Reading(label="taste"))


def test_a_table_of_their_images_beside_class_folders_is_told(make_folder: MakeFolder) -> None:
    """As HAM10000 comes: images in part_1 and part_2, and their labels in a table."""
    root = make_folder({"part_1": 3, "part_2": 4})
    for path in root.rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}-{path.name}"))
    rows = [{"image_id": Path(row["file_name"]).stem, "dx": "mel"} for row in rows_of(root)]
    write_csv(root / "names.csv", [{"id": "part_1", "name": "cat"}, {"id": "part_2", "name": "dog"}, {"id": "3", "name": "eel"}])
    assert not open_source(str(root)).remarks
    write_csv(root / "of_images.csv", rows)
    told = "labels are the names of the folders, not those in of_images.csv: to use these, give that file"
    assert open_source(str(root)).remarks == (told,)


def test_tables_that_are_not_used_are_told(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder({"": 8}, "loose")
    root = tmp_path / "loose"
    rows = [{"file_name": f"{i:03}.png", "label": "ab"[i % 2]} for i in range(8)]
    write_csv(root / "train.csv", rows[:6])
    write_csv(root / "test.csv", renamed(rows[6:], label="kind"))
    (root / "more.csv").write_text("a,b\n1,2,3\n")
    assert {reason: sorted(names) for reason, names in open_source(str(root)).left_out.items()} == {
        "damaged table": ["more.csv"],
        "table without labels of images in columns of known names": ["test.csv"],
        "image that no row names": ["006.png", "007.png"],
    }
    (root / "test.csv").write_text("file_name,label\n006.png,a,b\n")
    with pytest.raises(DataError, match=r"test\.csv: line 2 has 3 cells"):
        open_source(str(root))


@pytest.mark.parametrize("kind", ["csv", "coco"])
def test_a_table_of_any_name_in_the_folder_of_each_split(make_folder: MakeFolder, kind: str) -> None:
    """As Roboflow exports them."""
    root = make_folder({"train": {"": 6}, "valid": {"": 4}})
    for split, count in (("train", 6), ("valid", 4)):
        names = [f"{i:03}.png" for i in range(count)]
        coco = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [{"image_id": i, "category_id": i % 2} for i in range(count)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog"))],
        }
        if kind == "coco":
            (root / split / "_annotations.coco.json").write_text(json.dumps(coco))
        else:
            rows = [{"filename": name, "class": ("cat", "dog")[i % 2]} for i, name in enumerate(names)]
            write_csv(root / split / "_annotations.csv", rows)
    source = open_source(str(root))
    if kind == "csv":
        for path in root.rglob("*.csv"):
            path.write_text("filename, cat, dog\n000.png, 1, 0\n001.png, 0, 1\n")
        with pytest.raises(DataError, match="--task multilabel --label cat,dog takes its columns of 0 and 1"):
            open_source(str(root))
    assert source.classes == ("cat", "dog")
    assert source.test is not None
    assert (source.train.labels.tolist(), source.test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])


def test_images_in_a_folder_that_no_row_names_are_told(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2, "other": 2})
    rows = [row for row in without_split(root) if not row["file_name"].startswith("other")]
    assert sorted(open_source(str(write_csv(root / "all.csv", rows))).left_out["image that no row names"]) == [
        os.path.join("other", "000.png"),
        os.path.join("other", "001.png"),
    ]


def test_a_group_is_the_same_as_5_and_as_5_0(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3, "b": 3})
    rows = [{**row, "patient": (5, 5.0, "5")[i % 3]} for i, row in enumerate(without_split(root))]
    assert open_source(str(write_lines(root / "all.jsonl", rows)), Reading(group="patient")).train.groups == ("5",) * 6


def test_cells_in_quotes_after_a_space(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2})
    (root / "all.csv").write_text('file_name, label\na/000.png, "cat, big"\na/001.png, "eel"\nb/000.png,eel\n')
    assert open_source(str(root / "all.csv")).classes == ("cat, big", "eel")


def test_a_name_without_suffix_of_two_images(make_folder: MakeFolder) -> None:
    root = make_folder({"": 3})
    (root / "001.png").rename(root / "000.jpg")
    for name in ("000", "./000"):
        (root / "all.csv").write_text(f"file_name,label\n{name},cat\n002,dog\n")
        with pytest.raises(DataError, match=f"is {name} 000.jpg or 000.png"):
            open_source(str(root / "all.csv"))


def test_trained_with(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    table = write_csv(root / "all.csv", [{k: v for k, v in row.items() if k != "split"} for row in rows_of(root)])
    by_table = open_data(str(table), size=8, cache=tmp_path / "cache")
    assert by_table.sizes == open_data(str(root), size=8, cache=tmp_path / "cache").sizes


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=True)))
def test_labels_are_names_or_whole_numbers(value: object) -> None:
    if isinstance(value, float) and not np.isnan(value) and not value.is_integer():
        with pytest.raises(DataError, match="expected one name or whole number"):
            label_text(value, "here")
    else:
        text = label_text(value, "here")
        assert text is None or (text and text == label_text(text, "here"))


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["file_name", "label", "note"]),
            st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")),
            min_size=3,
        ),
        min_size=1,
    )
)
def test_cells_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    path = write_csv(tmp_path_factory.mktemp("table") / "all.csv", rows)
    wanted = [{name: text.strip() for name, text in row.items() if text.strip()} for row in rows if any(row.values())]
    assert [dict(row) for row in read_table(path).rows] == (wanted or [{}])


def without_split(root: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "split"} for row in rows_of(root)]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("is_train", ["1", "0"], True), ("inTest", ["yes", "no"], True), ("phase", ["train", "val"], True),
        ("usage", ["Training", "PublicTest"], True), ("test_score", ["0.5", "0.7"], False), ("vehicle", ["train", "bus"], False),
        ("vehicle", ["train"], False),
    ],
)  # fmt: skip
def test_columns_that_seem_to_divide_are_told(make_folder: MakeFolder, column: str, values: list[str], told: bool) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    rows = [{**row, column: values[i % len(values)]} for i, row in enumerate(without_split(root))]
    remarks = open_source(str(write_csv(root / "all.csv", rows))).remarks
    assert [
        f"the column {column} seems to name splits, but is not used: if it does, call it split" in text for text in remarks
    ] == [True] * told


def test_a_quote_that_never_ends_in_the_first_line(make_folder: MakeFolder) -> None:
    table = write_csv((root := make_folder({"cat": 3, "dog": 4})) / "all.csv", without_split(root))
    table.write_text(table.read_text().replace("label", '"label', 1))
    with pytest.raises(DataError, match=r"all.csv: a quote that begins in line 1 never ends"):
        open_source(str(table))


@pytest.mark.parametrize("line", ['cat/000.png,cat,"nice', '"cat/000.png,cat,', 'cat/000.png,cat,"a ""quoted"" one'])
def test_a_quote_that_never_ends_takes_in_nothing(make_folder: MakeFolder, line: str) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    rows = [{**row, "note": ""} for row in without_split(root)]
    table = write_csv(root / "all.csv", rows)
    head, _, *others = table.read_text().splitlines()
    table.write_text("\n".join([head, *others[:2], line, *others[2:]]))
    with pytest.raises(DataError, match=r"all.csv: a quote that begins in line 4 never ends: close it"):
        open_source(str(table))
    table.write_text("\n".join([head, f"{line}{chr(34)}," if line[0] == chr(34) else f"{line}{chr(34)}", *others]))
    assert len(read_table(table).rows) == 7


def test_categories_of_one_name_and_of_none(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    images = [{"id": i, "file_name": row["file_name"]} for i, row in enumerate(rows_of(root))]
    labels = [{"image_id": i, "category_id": i % 3} for i in range(len(images))]
    coco: dict[str, Any] = {"images": images, "annotations": labels}
    path = root / "all.json"
    path.write_text(json.dumps({**coco, "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "cat"))]}))
    source = open_source(str(path))
    assert (source.classes, source.remarks) == (("cat", "dog"), ("several categories are called cat: they are one class",))
    path.write_text(json.dumps({**coco, "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog"))]}))
    with pytest.raises(DataError, match="an annotation has the category 2, which is not among the categories"):
        open_source(str(path))
    path.write_text(json.dumps({**coco, "images": [{"id": 0}], "categories": []}))
    with pytest.raises(DataError, match=r"not annotations in COCO's format|which is not among the categories"):
        open_source(str(path))


def test_ids_of_coco_that_stand_for_two_or_for_nothing(make_folder: MakeFolder) -> None:
    """As in files that were joined, or of which images were taken out."""
    root = make_folder({"cat": 3, "dog": 4})
    files = [row["file_name"] for row in rows_of(root)]
    path = root / "all.json"

    def opened(ids: list[int], names: dict[int, str], more: tuple[tuple[int, str], ...] = ()) -> Source:
        images = [{"id": i, "file_name": file} for i, file in zip(ids, files, strict=False)]
        categories = [{"id": i, "name": name} for i, name in (*names.items(), *more)]
        labels = [{"image_id": i, "category_id": i % 2} for i in range(7)]
        path.write_text(json.dumps({"images": images, "annotations": labels, "categories": categories}))
        return open_source(str(path))

    with pytest.raises(DataError, match=r"all.json: cat and eel both have the id 0, .*: give them different ids"):
        opened([*range(7)], {0: "cat", 1: "dog"}, ((0, "eel"),))
    with pytest.raises(DataError, match=r"000.png and .*000.png both have the id 0"):
        opened([0, 1, 2, 0, 1, 2, 3], {0: "cat", 1: "dog"})
    assert not opened([*range(7)], {0: "cat", 1: "dog"}, ((0, "cat"),)).remarks
    source = opened([*range(5)], {0: "cat", 1: "dog", 2: "animal"})
    assert source.classes == ("cat", "dog")
    assert source.remarks == (
        "not used: 2 annotations of images that are not in the file, such as image 5",
        "not used as classes: categories without images: animal",
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("column", ["file_name", "name"])
def test_paths_are_found_in_any_form_of_unicode(make_folder: MakeFolder, form: str, column: str) -> None:
    """As a Mac and a spreadsheet write them."""
    root = make_folder({"cat": 2, "dog": 2})
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(unicodedata.normalize(other, f"größe {path.parent.name} {path.name}")))  # type: ignore[arg-type]
    rows = [{"path": unicodedata.normalize(form, row["file_name"]), "label": row["label"]} for row in rows_of(root)]  # type: ignore[arg-type]
    rows = [{**row, "path": os.path.basename(row["path"])} if column == "name" else row for row in rows]
    source = open_source(str(write_csv(root / "all.csv", rows)))
    assert len(source.train) == 4
    assert source.left_out == {}
