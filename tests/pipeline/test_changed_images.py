"""`ofa status` tells that the images changed since the run was made, and what to do."""

import shutil
from pathlib import Path

import pytest

from onceforall.cli import run as ofa
from onceforall.data.formats.listing import Listing
from onceforall.errors import DataError, Note
from onceforall.pipeline import Run, evaluate, status
from onceforall.pipeline.status import RunPart, Status
from tiny_run import edited, on_pictures, pictures


@pytest.fixture(scope="module")
def before(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its images, which nothing changes."""
    base = tmp_path_factory.mktemp("changed")
    on_pictures(str(pictures(base / "data")), base / "run", epochs=1.0)
    return base


@pytest.fixture
def run(before: Path, tmp_path: Path) -> Path:
    """A copy of the run with a copy of its images beside it, `data`, which have other times."""
    shutil.copytree(before / "run", tmp_path / "run")
    shutil.copytree(before / "data", tmp_path / "data", copy_function=shutil.copyfile)
    edited(tmp_path / "run" / "run.json", lambda data: data["data"].update(source=str(tmp_path / "data")))
    return tmp_path / "run"


def images(found: Status) -> list[RunPart]:
    return [part for part in found.parts if part.name == "images"]


def test_nothing_is_told_of_the_same_images(run: Path) -> None:
    (run.parent / "data" / "notes.txt").write_text("of no use")
    assert images(status(run)) == []


def test_what_changed_and_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = run.parent / "data"
    (data / "class 0" / "00.jpg").unlink()
    shutil.copy(data / "class 0" / "01.jpg", data / "class 1" / "00.jpg")
    shutil.copy(data / "class 1" / "01.jpg", data / "class 1" / "more.jpg")
    with pytest.raises(DataError, match="the images are not those"):
        evaluate(run)
    found = status(run)
    (part,) = images(found)
    assert part.state == "stale"
    changed = "1 added (class 1/more.jpg), 1 removed (class 0/00.jpg), 1 changed (class 1/00.jpg)"
    assert part.text.startswith(
        f"{data}: files changed since the run was made: {changed}; ofa evaluate {run} checks whether the images differ: "
    )
    assert (part.facts["added"], part.facts["removed"], part.facts["changed"]) == (1, 1, 1)
    assert found.next[0] == part.command == f"ofa train {data} --from {run} --out NEW"
    assert any(command.startswith("ofa evaluate") for command in found.next), "the images may be the same yet"
    assert ofa(["status", str(run)]) == 0
    assert changed in capsys.readouterr().out


def test_what_cannot_be_read_any_more(run: Path) -> None:
    shutil.rmtree(run.parent / "data" / "class 1")
    shutil.rmtree(run.parent / "data" / "class 0")
    (run.parent / "data" / "x.txt").write_text("nothing else")
    (part,) = images(status(run))
    assert part.state == "damaged"
    assert "changed since the run was made: " in part.text


def test_runs_without_a_list_and_a_damaged_list(run: Path) -> None:
    listing = run / "images.parquet"
    shutil.rmtree(run.parent / "data" / "class 1")
    listing.write_bytes(listing.read_bytes()[:40])
    (part,) = images(status(run))
    assert (part.state, "images.parquet: damaged" in part.text) == ("damaged", True)
    listing.unlink()  # as of an earlier version
    (part,) = images(status(run))
    assert (part.state, part.command) == ("missing", None)
    assert part.text.startswith("no list of their files (the run was made by an earlier version), so it is not known")
    assert Run.open(run).changes() is None
    edited(run / "run.json", lambda data: data["images"].update(train=200_001))
    assert "(none is kept for more than 200,000)" in images(status(run))[0].text


def test_what_trains_anew_reads_as_the_run_did(run: Path) -> None:
    edited(run / "run.json", lambda data: data["data"]["reading"].update(few=True, group="(..)"))
    (run.parent / "data" / "class 0" / "00.jpg").unlink()
    (part,) = images(status(run))
    assert part.command == f"ofa train {run.parent / 'data'} --group '(..)' --few --from {run} --out NEW"


def test_a_new_place_has_a_list_of_its_own(run: Path) -> None:
    """A zip of the folder has the same images in one file."""
    packed = shutil.make_archive(str(run.parent / "packed"), "zip", run.parent / "data")
    with pytest.warns(Note, match="from now on its images are read from"):
        evaluate(run, data=packed)
    assert images(status(run)) == []
    assert Listing.load(run / "images.parquet").names == (b"packed.zip",)
    Run.open(run).save_listing(())
    assert not (run / "images.parquet").exists(), "of a place without files"
