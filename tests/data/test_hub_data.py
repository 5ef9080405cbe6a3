"""Data sets of the Hugging Face Hub, from a stand-in on loopback."""

import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png

from file_server import COMMIT, FileServer, forget_library, serving_files
from onceforall.common.packages import require
from onceforall.data import open_data, open_source
from onceforall.data.formats.hub_data import CONVERTED, fetched, is_pinned_by, pinned
from onceforall.data.reading import Reading
from onceforall.errors import DataError, FileError, MissingExtraError
from onceforall.pipeline import Run, evaluate, status
from tiny_run import on_pictures

NEWER = "e" * 40


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """The Hub's stand-in for the `datasets` library, and caches of our own that are empty.

    One for all tests, each with data sets of other names: the library cannot be imported twice.
    """
    try:
        require("datasets", "datasets")
    except MissingExtraError as error:
        pytest.skip(str(error))
    if "datasets" in sys.modules:
        pytest.skip("the library 'datasets' was imported before, with another address of the Hub")
    home = tmp_path_factory.mktemp("hub")
    with serving_files() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
            "XDG_CACHE_HOME": str(home / "cache"),
        }.items():
            patch.setenv(name, value)
        forget_library()
        yield server
        forget_library()


@pytest.fixture
def offline(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is out of reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def parquet(labels: list[Any], *, seed: int = 0, names: list[str] | None = None, column: str = "label", **more: Any) -> bytes:
    """A Parquet file as the Hub has them; `names` stand in its metadata."""
    images = [{"bytes": png(seed + i), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({"image": images, column: labels, **more})
    if names is not None:
        features = {"image": {"_type": "Image"}, column: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


PETS = {
    "data/train-00000-of-00002.parquet": parquet([0, 1, 0, 1, 1], names=["cat", "dog"]),
    "data/train-00001-of-00002.parquet": parquet([1, 0], seed=20, names=["cat", "dog"]),
    "data/test-00000-of-00001.parquet": parquet([0, 1], seed=40, names=["cat", "dog"]),
}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def test_a_data_set_is_read_in_place(hub: FileServer) -> None:
    hub.publish_data("me/pets", PETS)
    notes: list[str] = []
    source = open_source("hf:me/pets", on_note=notes.append)
    assert notes == [f"hf:me/pets@{COMMIT}: downloading its 3 files into the cache of the Hub's library"]
    assert (source.name, source.classes) == (f"hf:me/pets@{COMMIT}", ("cat", "dog"))
    assert source.train.labels.tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert source.test is not None
    assert source.test.names == [f"test-00000-of-00001.parquet[{i}]" for i in range(2)]
    assert [load(64).size for load in source.train.read(np.arange(7))] == [(12, 10)] * 7
    home = Path(os.environ["HF_HOME"])
    stored = [path.read_bytes() for path in files_below(home / "hub" / "datasets--me--pets")]
    assert [stored.count(content) for content in PETS.values()] == [1, 1, 1]
    assert not any(path.suffix == ".arrow" for path in files_below(home)), "a second copy was written"


def test_a_commit_needs_neither_the_hub_nor_the_library_again(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish_data("me/kept", PETS)
    known = fetched("hf:me/kept")
    hub.data.pop("me/kept")
    asked = len(hub.asked)
    monkeypatch.setattr("onceforall.data.formats.hub_data.import_package", None)
    source = open_source(known)
    assert len(source.train) == 7
    assert len(hub.asked) == asked
    assert pinned(known) == known


def test_out_of_reach(hub: FileServer, request: pytest.FixtureRequest) -> None:
    hub.publish_data("me/far", PETS)
    known, notes = fetched("hf:me/far"), list[str]()
    request.getfixturevalue("offline")
    assert open_source("hf:me/far", on_note=notes.append).name == known
    assert len(notes) == 1
    assert "the Hub is out of reach" in notes[0]
    assert notes[0].endswith(f"using commit {COMMIT}, which was downloaded earlier")
    message = r"^hf:me/other: not in the cache, and the Hub is out of reach \(.*\): connect, or give a folder$"
    with pytest.raises(FileError, match=message) as found:
        open_source("hf:me/other")
    assert "\n" not in str(found.value)


def test_what_the_library_cannot_do_is_told_as_what_it_is(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is lost at the last question too; anything else is no reason to take an earlier commit."""
    files = {f"{name}/train.parquet": parquet([0, 1]) for name in "ab"}
    card = "".join(f"- config_name: {name}\n  data_files: {name}/train.parquet\n" for name in "ab")
    hub.publish_data("me/lost", {**files, "README.md": f"---\nconfigs:\n{card}---\n".encode()})

    def raising(error: Exception) -> Any:
        def call(*given: Any, **named: Any) -> None:
            raise error

        return call

    with monkeypatch.context() as patch:
        patch.setattr("datasets.get_dataset_config_names", raising(ConnectionError("the connection was dropped")))
        with pytest.raises(FileError, match=r"^hf:me/lost: not in the cache, and the Hub is out of reach \(the connection was"):
            open_source("hf:me/lost")
    hub.publish_data("me/held", PETS)
    known, notes = fetched("hf:me/held"), list[str]()
    monkeypatch.setattr("datasets.load_dataset_builder", raising(PermissionError(13, "Permission denied", "cache")))
    message = r"^hf:me/held: the Hub's library cannot open it \(.*Permission denied: 'cache'\): fix this, or give a folder \(hf"
    with pytest.raises(DataError, match=message):
        open_source("hf:me/held", on_note=notes.append)
    assert not notes
    monkeypatch.setattr("datasets.load_dataset_builder", raising(TimeoutError("no answer")))
    assert open_source("hf:me/held", on_note=notes.append).name == known


def test_a_newer_commit_does_not_change_a_run_s_data(hub: FileServer) -> None:
    hub.publish_data("me/newer", PETS)
    known = pinned("hf:me/newer")
    hub.publish_data("me/newer", {**PETS, "data/validation-00000-of-00001.parquet": parquet([0, 1], seed=60)}, commit=NEWER)
    assert pinned("hf:me/newer") == f"hf:me/newer@{NEWER}"
    assert open_source(known).held_out is None
    assert is_pinned_by("hf:me/newer", known)
    assert is_pinned_by(known, known)
    assert not is_pinned_by(f"hf:me/newer@{NEWER}", known)
    assert not is_pinned_by("hf:me/dogs", known)


def test_configurations(hub: FileServer) -> None:
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/a.parquet\n  - split: validation\n"
        f"    path: {name}/b.parquet\n"
        for name in ("large", "small")
    )
    files = {f"{name}/{part}.parquet": parquet([0, 1, 1], seed=seed, names=["x", "y"])
             for seed, name in ((0, "large"), (50, "small")) for part in "ab"}  # fmt: skip
    hub.publish_data("me/two", {**files, "README.md": f"{card}---\n".encode()})
    source = open_source("hf:me/two:small")
    assert source.name == f"hf:me/two@{COMMIT}:small"
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (3, 3)
    assert open_source(source.name).train.identity == source.train.identity
    with pytest.raises(DataError, match=r"^hf:me/two: which configuration, large, small\? Write hf:me/two:large$"):
        open_source("hf:me/two")
    with pytest.raises(DataError, match=r"^hf:me/two:tiny: no such configuration: choose from large, small$"):
        open_source("hf:me/two:tiny")


def test_labels(hub: FileServer) -> None:
    card = (
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: coarse\n    dtype:\n      class_label:\n"
        "        names:\n          '0': bird\n          '1': fish\n---\n"
    )
    both = {"train.parquet": parquet([0, 1, 2], column="fine", coarse=[0, 1, 1]), "README.md": card.encode()}
    hub.publish_data("me/both", both)
    assert open_source("hf:me/both", Reading(label="coarse")).classes == ("bird", "fish"), "names of the card"
    assert open_source("hf:me/both", Reading(label="fine")).classes == ("0", "1", "2")
    hub.publish_data("me/tags", {"train.parquet": parquet([["red"], ["red", "old"], []], column="tags")})
    several = open_source("hf:me/tags", Reading(task="multilabel"))
    assert several.classes == ("old", "red")
    assert several.train.labels.tolist() == [[0, 1], [1, 1], [0, 0]]


def test_what_the_hub_has_converted(hub: FileServer) -> None:
    hub.publish_data("me/photos", {"train/cat/1.png": png(1), "train/dog/1.png": png(2)})
    with pytest.raises(
        DataError, match=r"no Parquet files \(its files are of the kind imagefolder\), .* hf download me/photos --repo"
    ):
        open_source("hf:me/photos")
    files = {"default/partial-train/0000.parquet": parquet([0, 1, 1], names=["cat", "dog"])}
    hub.publish_data("me/photos", files, CONVERTED, NEWER)
    source = open_source("hf:me/photos")
    assert source.name == f"hf:me/photos@{NEWER}:default"
    assert source.classes == ("cat", "dog")
    assert source.remarks == ("partial-train: the Hub has converted only the first 5 GB of the images, the others are missing",)


def test_columns_that_name_files_are_refused(hub: FileServer, tmp_path: Path) -> None:
    """They could be any files of this machine, of which reading would tell whether they are there."""
    (tmp_path / "mine.png").write_bytes(png(1))
    for i, more in enumerate(({"label": [0, 1]}, {"label": ["a", "b"]}, {"label": [["a"], ["b"]]})):
        stream = io.BytesIO()
        pq.write_table(pa.table({"image": [str(tmp_path / "mine.png"), "../../x.png"], **more}), stream)
        hub.publish_data(f"me/named{i}", {"train.parquet": stream.getvalue()})
        message = rf"^hf:me/named{i}@{COMMIT}: the column image holds paths of images, .*: download it, check the paths, and give"
        with pytest.raises(DataError, match=message):
            open_source(f"hf:me/named{i}", Reading(task="multilabel" if i == 2 else None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:", "hf:: write hf:NAME, hf:USER/NAME, hf:NAME@REVISION or hf:NAME:CONFIGURATION"),
        ("hf:a/b/c", "write hf:NAME"),
        ("hf:me/none", "^hf:me/none: the Hub has no data set me/none, or hides it: check the name, or give a token"),
        ("hf:me/cats@v2", "^hf:me/cats@v2: "),
        ("hf:me/empty", "^hf:me/empty: "),
        ("hf:me/text", "no image column: expected one of image"),
    ],
)
def test_what_is_refused(hub: FileServer, text: str, message: str) -> None:
    hub.publish_data("me/cats", PETS)
    hub.publish_data("me/empty", {"README.md": b"nothing\n"})
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), stream)
    hub.publish_data("me/text", {"train.parquet": stream.getvalue()})
    with pytest.raises((DataError, FileError), match=message) as found:
        open_source(text)
    assert "\n" not in str(found.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"the package 'datasets', which is not installed: pip install 'onceforall\[datasets\]'"
    ):
        open_source("hf:me/absent")


def test_a_data_set_becomes_splits(hub: FileServer, tmp_path: Path) -> None:
    files = {"train.parquet": parquet([0, 1] * 20, names=["cat", "dog"])}
    hub.publish_data("me/many", files)
    splits = open_data("hf:me/many", size=16, cache=tmp_path / "decoded")
    assert splits.classes == ("cat", "dog")
    assert sum(splits.sizes.values()) == 40
    assert open_data("hf:me/many", size=16, cache=tmp_path / "decoded").fingerprint == splits.fingerprint


def test_a_run_keeps_the_commit(hub: FileServer, tmp_path: Path) -> None:
    hub.publish_data("me/run", {"train.parquet": parquet([0, 1] * 20, names=["cat", "dog"])})
    run = on_pictures("hf:me/run", tmp_path / "run", epochs=1.0)
    assert run.info.data is not None
    assert (run.info.data.source, run.info.data.asked) == (f"hf:me/run@{COMMIT}", "hf:me/run")
    tagged = Run(run.folder, replace(run.info, data=replace(run.info.data, asked="hf:me/run@v1.0")))
    assert tagged.moved_to("hf:me/run@v1.0") is tagged, "the Hub has no such tag any more, and is not asked"
    assert run.moved_to("hf:me/run@main") is run, "it leads to the commit that is known"
    hub.publish_data("me/run", {"train.parquet": parquet([0, 1] * 20, seed=99, names=["cat", "dog"])}, commit=NEWER)
    assert len(evaluate(run.folder)) == 1
    assert on_pictures("hf:me/run", tmp_path / "run", epochs=1.0, resume=True).info.data == run.info.data
    assert not [part for part in status(run.folder).parts if part.name == "images"]
    with pytest.raises(DataError, match=rf"^hf:me/run@{NEWER}: the images are not those that"):
        evaluate(run.folder, data=f"hf:me/run@{NEWER}")
