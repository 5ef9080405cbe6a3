"""Parquet files as the Hugging Face hub lays them out, and as people leave them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import MakeFolder, picture, png, write_parquet

from onceforall.data import Source, open_data, open_source
from onceforall.data.reading import Reading
from onceforall.errors import DataError

NAMES = ["cat", "dog"]


def shapes(source_part: object) -> int:
    part = source_part
    return sum(load(64).size == (12, 10) for load in part.read(np.arange(len(part))))  # type: ignore[attr-defined]


def labels_by_image(source: Source) -> dict[bytes, str]:
    """The class of each training image, by its pixels."""
    images = source.train.read(np.arange(len(source.train)))
    return {load(64).tobytes(): source.classes[label] for load, label in zip(images, source.train.labels, strict=True)}


@pytest.mark.parametrize("where", ["", "data", "plain_text"])
@pytest.mark.parametrize("plain", [False, True])
def test_parquet(tmp_path: Path, where: str, plain: bool) -> None:
    write_parquet(tmp_path / where / "train-00000-of-00002.parquet", [0, 1, 0, 1, 0], names=["cat", "dog"], plain=plain)
    write_parquet(tmp_path / where / "train-00001-of-00002.parquet", [1, 1], names=["cat", "dog"], plain=plain)
    write_parquet(tmp_path / where / "validation-00000-of-00001.parquet", [1, 0], names=["cat", "dog"], plain=plain)
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert source.train.names[6] == "train-00001-of-00002.parquet[1]"
    assert source.test is not None
    assert (shapes(source.train), shapes(source.test)) == (7, 2)
    everything = [np.asarray(load(64)) for load in source.train.read(np.arange(7))]
    for wanted in ([4], [0, 6], [2, 3, 5]):
        for i, load in zip(wanted, source.train.read(np.array(wanted)), strict=True):
            assert (np.asarray(load(64)) == everything[i]).all()


def test_parquet_without_class_names_and_with_an_unlabelled_test(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2], image="image", label="fine_label")
    write_parquet(tmp_path / "validation-0.parquet", [0, 1, 2], image="image", label="fine_label")
    write_parquet(tmp_path / "test-0.parquet", [-1, -1], image="image", label="fine_label")
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1", "2")
    assert source.test is not None
    assert source.test.names[0] == "validation-0.parquet[0]"
    assert source.held_out is None


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([None, b"junk"], pa.binary()), "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    empty, junk = open_source(str(tmp_path)).train.read(np.arange(2))
    with pytest.raises(DataError, match=r"train\.parquet\[0\]: no image in this row"):
        empty(8)
    with pytest.raises(DataError, match=r"train\.parquet\[1\]: not an image"):
        junk(8)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "label": [0]}, "no image column: expected one of image, img.*the columns are text, label"),
        ({"image": [b"a"], "caption": ["a"]}, "no label column: expected one of label, labels"),
        (
            {"image": [b"a"], "label": [0.5]},
            "the column label holds measurements such as 0.5, and there is no regression",
        ),
        ({"image": [b"a", b"b"], "label": [1.0, float("nan")]}, "1 rows of 'label' are empty"),
        ({"image": [b"a"], "label": pa.array([None], pa.int64())}, "1 rows of 'label' are empty"),
    ],
)
def test_parquet_without_usable_columns(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"train-0\.parquet: a Git LFS pointer"):
        open_source(str(tmp_path))


def test_parquet_without_training_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-0.parquet", [0, 1])
    write_parquet(tmp_path / "extra-0.parquet", [0, 1])
    with pytest.raises(DataError, match=r"no train-\*\.parquet among its Parquet files \(found: extra, test\)"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "test", "held_out"),
    [
        (["train/0000", "test/0000"], "test/0000", None),
        (["plain/train/0000", "plain/test/0000"], "test/0000", None),
        (["data/plain/train/0000", "data/plain/test/0000"], "test/0000", None),
        (["default/partial-train/0000", "default/partial-validation/0000"], "partial-validation/0000", None),
        (["plain/train-00000-of-00001", "plain/test-00000-of-00001"], "test-00000-of-00001", None),
        (["cifar10-train", "cifar10-test"], "cifar10-test", None),
        (["train", "eval", "validation"], "eval", "validation"),
        (["train", "test", "eval"], "test", "eval"),
        (["Training/a", "Testing/a", "dev/a"], "Testing/a", "dev/a"),
        (["x_train", "x_test"], "x_test", None),
        (["train.parquet/part-00000-abc", "test.parquet/part-00000-def"], "test.parquet/part-00000-def", None),
    ],
)
def test_layouts_of_splits(tmp_path: Path, files: list[str], test: str, held_out: str | None) -> None:
    for i, name in enumerate(files):
        write_parquet(tmp_path / f"{name}.parquet", [0, 1] * (5 - i), seed=100 * i, names=NAMES)
    source = open_source(str(tmp_path))
    assert source.train.labels.tolist() == [0, 1] * 5
    assert source.test is not None
    assert source.test.names[0] == f"{test}.parquet[0]"
    assert (source.held_out.names[0] if source.held_out else None) == (f"{held_out}.parquet[0]" if held_out else None)
    assert source.left_out == {}
    first = np.asarray(next(source.test.read(np.array([0])))(64))
    assert (first == np.asarray(picture(100 * files.index(next(name for name in files if name.endswith(test)))))).all()


@pytest.mark.parametrize("files", [["0000", "0001"], ["part-0", "part-1"], ["images"], ["data/a1", "data/a2"]])
def test_files_without_any_split_are_the_training_images(tmp_path: Path, files: list[str]) -> None:
    for i, name in enumerate(files):
        write_parquet(tmp_path / f"{name}.parquet", [0, 1], seed=10 * i, names=NAMES)
    source = open_source(str(tmp_path))
    assert (len(source.train), source.test) == (2 * len(files), None)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["en/train/0", "de/train/0"], "which of 2 sets of Parquet files, de, en\\? Give its folder, for example .*/de$"),
        (["en/train-0", "de/train-0", "de/test-0"], "which of 2 sets of Parquet files, de, en"),
        (["train-0", "data/train-0"], "the files beside these folders, data\\?"),
        (["train-0", "train_small-0"], "which are the train images, train or train_small\\?"),
        (["plain/train/0", "plain/train_small/0"], "which are the train images, train or train_small\\?"),
        (["default/train/0", "default/partial-train/0"], "which are the train images, partial-train or train\\?"),
        (["train-0", "test-0", "val-0", "eval-0"], "which two of test, eval, val are the test and the held-out images"),
        (["train-0", "val-0", "dev-0"], "which are the validation images, dev or val"),
        (["train/test-0", "train/train-0"], "test.*train.*differ"),
        (
            ["train-00000-of-00001", "train-00000-of-00002"],
            "train-00000-of-00001.parquet and train-00000-of-00002.*are not shards of one set",
        ),
        (["train", "train-00000-of-00002"], "are not shards of one set"),
        (["test/0", "validation/0"], "no train-\\*.parquet among its Parquet files \\(found: test, validation\\)"),
    ],
)
def test_more_than_one_reading_is_asked_about(tmp_path: Path, files: list[str], message: str) -> None:
    for i, name in enumerate(files):
        write_parquet(tmp_path / f"{name}.parquet", [0, 1], seed=10 * i, names=NAMES)
    with pytest.raises(DataError, match=message) as caught:
        open_source(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_folder_of_a_configuration_can_be_given(tmp_path: Path) -> None:
    for i, name in enumerate(["en/train/0", "de/train/0"]):
        write_parquet(tmp_path / f"{name}.parquet", [0, 1] * (i + 1), names=NAMES)
    assert len(open_source(str(tmp_path / "de")).train) == 4


def test_what_is_not_used_is_told(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00003.parquet", [0, 1], names=NAMES)
    write_parquet(tmp_path / "data" / "train-00002-of-00003.parquet", [0, 1], seed=9, names=NAMES)
    write_parquet(tmp_path / "data" / "extra-00000-of-00001.parquet", [0, 1], names=NAMES)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [-1, -1], names=NAMES)
    pq.write_table(pa.table({"file_name": ["a"]}), tmp_path / "metadata.parquet")
    source = open_source(str(tmp_path))
    assert (len(source.train), source.test) == (4, None)
    assert dict(source.left_out) == {
        "shard missing from a numbered set": ["data/train-00001-of-00003.parquet"],
        "Parquet file without a split's name": ["data/extra-00000-of-00001.parquet"],
        "Parquet file without labels": ["data/test-00000-of-00001.parquet"],
        "Parquet file without a column of images": ["metadata.parquet"],
    }


@pytest.mark.parametrize("lack", ["no column", "empty"])
def test_a_test_part_without_labels_is_left_aside(tmp_path: Path, lack: str) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1], names=NAMES)
    write_parquet(tmp_path / "test-0.parquet", [0, 1], names=NAMES)
    table = pq.read_table(tmp_path / "test-0.parquet").drop_columns("label")
    pq.write_table(
        table if lack == "no column" else table.append_column("label", pa.nulls(2, pa.int64())), tmp_path / "test-0.parquet"
    )
    source = open_source(str(tmp_path))
    assert source.test is None
    assert source.left_out["Parquet file without labels"] == ["test-0.parquet"]


def test_labels_are_matched_by_name_in_every_file(tmp_path: Path) -> None:
    names = [["cat", "dog", "caf\u00e9"], ["dog", "cafe\u0301", "cat"]]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1, 2], names=names[0])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [0, 1, 2], seed=50, names=names[1])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [0, 1, 2], seed=90, names=names[1])
    source = open_source(str(tmp_path))
    assert source.classes == tuple(names[0])
    expected = {picture(seed).tobytes(): names[0][i] for i, seed in enumerate((0, 1, 2))}
    expected |= {picture(seed).tobytes(): names[0][i] for i, seed in zip((1, 2, 0), (50, 51, 52), strict=True)}
    assert labels_by_image(source) == expected
    assert source.test is not None
    assert source.test.labels.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (
            [0, 1],
            ["dog", "eel"],
            "train-1.parquet names 2 classes, which differ from the 2 of .*only in one of them: cat, eel",
        ),
        ([0, 1], ["cat", "dog", "eel"], "names 3 classes, which differ from the 2 of .*only in one of them: eel"),
        ([0, 1], None, "train-0.parquet names its classes and .*train-1.parquet does not, so their labels cannot be matched"),
        ([0, 2], ["dog", "cat"], "train-1.parquet: the label of row 1 is 2, out of range: with 2 classes labels go from 0 to 1"),
        ([0, -1], ["dog", "cat"], "the label of row 1 is -1, out of range"),
        ([0, 1], ["dog", "dog"], "train-1.parquet names 2 classes, which differ from the 2 of"),
    ],
)
def test_labels_that_cannot_be_matched_are_refused(
    tmp_path: Path, labels: list[int], names: list[str] | None, message: str
) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1], names=NAMES)
    write_parquet(tmp_path / "train-1.parquet", labels, names=names)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))


def test_columns_may_have_other_names_in_every_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 1], names=NAMES)
    write_parquet(tmp_path / "train-1.parquet", [1, 0], seed=50, names=NAMES, image="image", label="labels", plain=True)
    source = open_source(str(tmp_path))
    assert source.train.labels.tolist() == [0, 1, 1, 1, 0]
    pixels = [load(64).tobytes() for load in source.train.read(np.arange(5))]
    assert pixels == [picture(seed).tobytes() for seed in (0, 1, 2, 50, 51)]


def test_the_column_that_all_files_have_is_taken_and_told(tmp_path: Path) -> None:
    for i in range(2):
        write_parquet(tmp_path / f"train-{i}.parquet", [i, 1 - i], label="fine_label", names=NAMES)
    table = pq.read_table(tmp_path / "train-0.parquet")
    pq.write_table(table.append_column("label", pa.array([7, 7])), tmp_path / "train-0.parquet")
    source = open_source(str(tmp_path))
    assert source.train.labels.tolist() == [0, 1, 1, 0]
    assert source.remarks == ("labels are those of the column fine_label, not of label",)


def test_a_column_that_is_not_clear_is_asked_about(tmp_path: Path) -> None:
    for i, label in enumerate(("cls", "fine_label")):
        write_parquet(tmp_path / f"train-{i}.parquet", [0, 1], label=label, names=NAMES)
    table = pq.read_table(tmp_path / "train-1.parquet")
    pq.write_table(table.append_column("label", pa.array([7, 7])), tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1.parquet: which is the label column, label or fine_label\?"):
        open_source(str(tmp_path))


def test_a_shard_without_images_is_no_file_about_something_else(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1], names=NAMES)
    pq.write_table(pa.table({"note": ["a", "b"], "label": [0, 1]}), tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1.parquet: no image column.*the columns are note, label"):
        open_source(str(tmp_path))


def test_the_one_column_of_bytes_is_the_images_whatever_it_is_called(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1], names=NAMES)
    write_parquet(tmp_path / "train-1.parquet", [0, 1], names=NAMES, image="foto")
    assert len(list(open_source(str(tmp_path)).train.read(np.arange(4)))) == 4


@pytest.mark.parametrize("kind", [pa.bool_(), pa.uint8(), pa.uint64(), pa.int32()])
def test_labels_of_all_kinds_of_integers(tmp_path: Path, kind: pa.DataType) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 1], names=NAMES, kind=kind)
    assert open_source(str(tmp_path)).train.labels.tolist() == [0, 1, 1]


def test_a_stray_parquet_file_among_images(make_folder: MakeFolder) -> None:
    root = make_folder({"train": {"a": 3, "b": 3}})
    pq.write_table(pa.table({"file_name": ["a/000.png"]}), root / "train" / "metadata.parquet")
    (root / "train" / "b" / "damaged.parquet").write_bytes(b"PAR1")
    source = open_source(str(root))
    assert source.classes == ("a", "b")
    assert source.left_out["file without an image in it (.parquet)"] == ["train/b/damaged.parquet", "train/metadata.parquet"]
    write_parquet(root / "more.parquet", [0, 1])
    with pytest.raises(DataError, match=r"are its folders of images the data, or its Parquet files with images \(.*more.parquet"):
        open_source(str(root))


def test_pictures_and_runs_beside_parquet_files_are_no_data(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-0.parquet", [0, 1], names=NAMES)
    (tmp_path / "assets").mkdir()
    picture(1).save(tmp_path / "assets" / "preview.png")
    write_parquet(tmp_path / "run" / "accuracy" / "train-0.parquet", [0, 1])
    (tmp_path / "run" / "run.json").write_text('{"format": "onceforall.run/1"}')
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(open_source(str(tmp_path)).train) == 2


def test_both_colours_keep_their_class(tmp_path: Path) -> None:
    """As in the field report: shards in which the names stand in different order, and the whole way to the splits."""
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1] * 10, names=NAMES)
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", [1, 0] * 10, seed=100, names=NAMES[::-1])
    splits = open_data(str(tmp_path / "data"), size=16, cache=tmp_path / "cache")
    for images in (splits.train, splits.held_out, splits.open_test("check")):
        for i in range(len(images)):
            assert images.labels[i] == int(images.name(i).split("[")[1][:-1]) % 2


def write_rows(path: Path, labels: pa.Array, images: pa.Array | None = None, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array([png(i) for i in range(len(labels))]) if images is None else images
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_names_in_place_of_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    write_rows(tmp_path / "train-00000-of-00002.parquet", pa.array(["dog", "cat", "dog"]).cast(kind))
    write_rows(tmp_path / "train-00001-of-00002.parquet", pa.array(["eel", "eel"]).cast(kind))
    write_rows(tmp_path / "test.parquet", pa.array(["eel", "cat"]).cast(kind))
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog", "eel")
    assert source.train.labels.tolist() == [1, 0, 1, 2, 2]
    assert source.test is not None
    assert source.test.labels.tolist() == [2, 0]
    assert open_source(str(tmp_path / "test.parquet")).classes == ("cat", "eel")


def test_names_and_numbers_with_names_agree(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.parquet", pa.array(["dog", "cat"]))
    write_parquet(tmp_path / "test.parquet", [0, 1], image="image", names=["dog", "cat"])
    source = open_source(str(tmp_path))
    assert source.test is not None
    assert (source.classes, source.train.labels.tolist(), source.test.labels.tolist()) == (("cat", "dog"), [1, 0], [1, 0])
    write_parquet(tmp_path / "test.parquet", [0, 1], image="image")
    with pytest.raises(DataError, match=r"test\.parquet: 'label' has numbers without names, but names in other files"):
        open_source(str(tmp_path))
    write_rows(tmp_path / "test.parquet", pa.array(["cow", "cat"]))
    with pytest.raises(DataError, match=r"too few usable train images in 3 of 3 classes: cat \(1\), cow \(0\)"):
        open_data(str(tmp_path), size=8, cache=tmp_path / "cache")


def test_whole_numbers_of_floating_point(tmp_path: Path) -> None:
    """As pandas writes a column in which numbers were missing once."""
    write_rows(tmp_path / "train.parquet", pa.array([2.0, 0.0, 1.0]))
    assert open_source(str(tmp_path)).train.labels.tolist() == [2, 0, 1]
    write_rows(tmp_path / "train.parquet", pa.array([2.0, 0.0, 1.0]), fine_label=pa.array([0, 0, 1]))
    assert open_source(str(tmp_path)).classes == ("0", "1"), "a column of whole numbers is likelier"


@pytest.mark.parametrize("reading", [Reading(group="tile"), Reading(group="tile", task="multilabel")])
def test_a_column_of_groups(tmp_path: Path, reading: Reading) -> None:
    labels = [[0], [1], [0]] if reading.several else [0, 1, 0]
    write_rows(tmp_path / "train.parquet", pa.array(labels), tile=pa.array([7, 8, 7]))
    write_rows(tmp_path / "test.parquet", pa.array(labels), tile=pa.array([9, None, None]))
    source = open_source(str(tmp_path), reading)
    assert source.train.groups == ("7", "8", "7")
    assert source.test is not None
    assert len(set(source.test.groups or ())) == 3
    assert source.remarks[-1] == "2 rows without a value in the column tile: each is a group of its own"
    write_rows(tmp_path / "test.parquet", pa.array(labels))
    with pytest.raises(DataError, match=r"test\.parquet: no column 'tile', which other files have: all need it"):
        open_source(str(tmp_path), reading)


def test_groups_are_the_same_in_all_files_and_places(tmp_path: Path) -> None:
    """Where a number is missing, a file has them all of floating point; a row alone is told by where it is in the data."""
    for place in ("here", "z/there"):
        root = tmp_path / place
        root.mkdir(parents=True)
        write_rows(root / "train-0.parquet", pa.array([0, 1, 0]), tile=pa.array([7, 8, 7]))
        write_rows(root / "train-1.parquet", pa.array([0, 1, 0]), tile=pa.array([7.0, None, 7.5]))
        source = open_source(str(root), Reading(group="tile"))
        assert source.train.groups == ("7", "8", "7", "7", "train-1.parquet[1]", "7.5")


def test_another_column_of_labels(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.parquet", pa.array([0, 1, 2]), coarse_label=pa.array(["animal", "plant", "animal"]))
    assert open_source(str(tmp_path)).classes == ("0", "1", "2")
    assert open_source(str(tmp_path), Reading(label="coarse_label")).classes == ("animal", "plant")
    with pytest.raises(DataError, match=r"no column 'taste' of numbers or names: choose from label, coarse_label"):
        open_source(str(tmp_path), Reading(label="taste"))


def test_paths_in_place_of_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture(i).save(tmp_path / "photos" / f"{i}.png")
    write_rows(tmp_path / "train.parquet", pa.array([0, 1, 0]), pa.array([f"photos/{i}.png" for i in range(3)]))
    loads = open_source(str(tmp_path)).train.read(np.arange(3))
    assert [load().tobytes() for load in loads] == [picture(i).tobytes() for i in range(3)]


def test_a_column_that_is_asked_for_labels_every_split(tmp_path: Path) -> None:
    for split, breeds in (("train", ["a", "b", "a"]), ("test", ["b", "a"])):
        images = pa.array([png(i) for i in range(len(breeds))])
        pq.write_table(pa.table({"image": images, "breed": breeds}), tmp_path / f"{split}.parquet")
    source = open_source(str(tmp_path), Reading(label="breed"))
    assert source.test is not None
    assert (source.classes, source.test.labels.tolist()) == (("a", "b"), [1, 0])


def test_numbers_as_texts_are_no_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1], names=NAMES)
    table = pq.read_table(tmp_path / "train-0.parquet")
    texts = pa.table({"img": table.column("img"), "label": pa.array(["0", "1"])})
    pq.write_table(texts, tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1.parquet: 'label' has numbers without names, but names in other files"):
        open_source(str(tmp_path))
    (tmp_path / "train-0.parquet").unlink()
    assert open_source(str(tmp_path)).classes == ("0", "1")


def test_a_label_of_another_type_and_columns_that_seem_to_divide_are_told(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", [0, 1], names=NAMES)
    table = pq.read_table(tmp_path / "all.parquet")
    pq.write_table(table.append_column("split", pa.array(["train", "test"])), tmp_path / "all.parquet")
    (remark,) = open_source(str(tmp_path)).remarks
    assert remark.startswith("the column split seems to name splits, but is not used: splits of Parquet files are known from")
    for column, values in (("part", ["train", "test"]), ("fold", ["1", "2"])):  # by what is in it, or by its name
        pq.write_table(table.append_column(column, pa.array(values)), tmp_path / "all.parquet")
        (remark,) = open_source(str(tmp_path)).remarks
        assert remark.startswith(f"the column {column} seems to name splits, but is not used")
    pq.write_table(pa.table({"img": table.column("img"), "label": pa.array([0, 1], pa.date32())}), tmp_path / "all.parquet")
    with pytest.raises(DataError, match=r"no label column: .*; label holds date32"):
        open_source(str(tmp_path))


def test_what_is_there_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"train\.parquet: a Git LFS pointer instead of the file: git lfs pull downloads it"):
        open_source(str(tmp_path))
    (tmp_path / "train.parquet").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(DataError, match=r"train\.parquet: an HTML page instead of the file: download it again"):
        open_source(str(tmp_path))
