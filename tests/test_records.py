"""Records as JSON and back, and what is said of files that are none."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import onceforall
from onceforall import Arch
from onceforall.common.records import as_record, json_of, read_record, read_records, write_record
from onceforall.errors import FileError
from onceforall.scores import Confusion

SPACE = onceforall.space("mobilenet_v3")


@dataclass(frozen=True)
class Inner:
    share: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int
    box: tuple[int, float]
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    arch: Arch | None = None
    counts: dict[str, int] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    yes: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count is {self.count}")


@dataclass(frozen=True)
class Renamed:
    new: int

    @staticmethod
    def older(data: dict[str, Any]) -> dict[str, Any]:
        return {"new": data.get("old"), **data}


@dataclass(frozen=True)
class Placed:
    place: Path
    state: Literal["done", "going on"]
    confusion: Confusion | None = None


WHOLE = Outer(
    3, (1, 0.5), Inner(0.25, ("a", "b\udce9")), (Inner(1.0),), SPACE.smallest(), {"train": 9}, {"x": [None, {"y": 1}]}, yes=True
)
GIVEN = {"count": 1, "box": [1, 2]}


def test_paths_choices_and_what_writes_its_own_json(tmp_path: Path) -> None:
    confusion = Confusion.of(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([0.9, 0.8, 0.6]), 2)
    path = tmp_path / "a.json"
    write_record(path, Placed(tmp_path / "net", "done", confusion), "test/1")
    found = read_record(path, Placed, "test/1")
    assert (found.place, found.state) == (tmp_path / "net", "done")
    assert found.confusion is not None
    assert found.confusion.to_json() == confusion.to_json()
    path.write_text(json.dumps({"place": "net", "state": "done", "confusion": {"counts": [[1]]}}))
    with pytest.raises(FileError, match=r"a\.json: damaged or edited \(not a confusion matrix"):
        read_record(path, Placed)
    path.write_text(json.dumps({"place": 3, "state": "done"}))
    with pytest.raises(FileError, match="place is 3, and a string is expected"):
        read_record(path, Placed)
    path.write_text(json.dumps({"place": "net", "state": "soon"}))
    with pytest.raises(FileError, match="state is 'soon', and one of done, going on is expected"):
        read_record(path, Placed)


def test_round_trip(tmp_path: Path) -> None:
    """Also of a text that is not valid Unicode, as a path may be."""
    path = tmp_path / "a.json"
    write_record(path, WHOLE, "test/1")
    assert read_record(path, Outer, "test/1") == WHOLE
    assert json.loads(path.read_text())["format"] == "test/1"
    assert json.loads(path.read_text())["arch"] == SPACE.smallest().to_json()
    assert as_record(json_of(WHOLE), Outer, path) == WHOLE


def test_defaults_other_entries_and_whole_numbers_for_others() -> None:
    found = as_record({**GIVEN, "unknown": 1}, Outer, Path("a.json"))
    assert found == Outer(1, (1, 2.0))
    assert isinstance(found.box[1], float)


def test_older_files() -> None:
    assert as_record({"old": 4}, Renamed, Path("a.json")) == as_record({"new": 4}, Renamed, Path("a.json")) == Renamed(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": "3"}, "count is '3', and a whole number is expected"),
        ({"count": True}, "count is True, and a whole number is expected"),
        ({"count": 1.5}, "count is 1.5, and a whole number is expected"),
        ({"count": None}, "count is None, and a whole number is expected"),
        ({"count": -1}, "count is -1"),
        ({"yes": 1}, "yes is 1, and true or false is expected"),
        ({"box": [1]}, "box has 1 values, and 2 are expected"),
        ({"box": {"a": 1}}, "box is an object, and a list is expected"),
        ({"box": [1, "x"]}, r"box\[1\] is 'x', and a number is expected"),
        ({"inner": {}}, r"inner\.share is missing"),
        ({"many": [{"share": 1}, {"share": []}]}, r"many\[1\]\.share is a list, and a number is expected"),
        ({"counts": {"a": "b"}}, r"counts\.a is 'b', and a whole number is expected"),
        ({"arch": "{}"}, "architecture: expected an object with exactly"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FileError, match=rf"^a\.json: damaged or edited \({message}.*\): remove it$") as caught:
        as_record({**GIVEN, **changes}, Outer, Path("a.json"), otherwise="remove it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_no_object(data: Any) -> None:
    with pytest.raises(FileError, match=r"a\.json: damaged or edited \(its content is .*, and an object is expected\)"):
        as_record(data, Outer, Path("a.json"))


def test_formats() -> None:
    with pytest.raises(FileError, match=r"a\.json: written by another version of onceforall \('test/2', this one reads 'test/1'\)"):
        as_record({**GIVEN, "format": "test/2"}, Outer, Path("a.json"), "test/1")
    with pytest.raises(FileError, match=r"a\.json: damaged or edited \(format is missing\)"):
        as_record(GIVEN, Outer, Path("a.json"), "test/1")


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_records(path, Inner) == []
    path.write_text('{"share": 1}\n{"share": 0.5, "names": ["x"]}\n{"sha')
    assert read_records(path, Inner) == [Inner(1.0), Inner(0.5, ("x",))]
