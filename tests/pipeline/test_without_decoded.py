"""`ofa train --cache`: the same weights whichever way images are kept, and what is done later follows it."""

from pathlib import Path

import pytest

from onceforall.common.places import cache_folder
from onceforall.common.progress import Progress
from onceforall.data import Decoding
from onceforall.errors import DataError, StoppedError
from onceforall.pipeline import Run, evaluate, train
from tiny_run import on_pictures, pictures


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(pictures(tmp_path / "data"))


def kept(name: str) -> set[Path]:
    """Files of this name in the cache."""
    return set(cache_folder().rglob(name))


def test_weights_are_the_same_and_nothing_is_kept(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted and resumed, half of it with decoded images."""
    asked, crops = list[int](), Decoding.crops
    monkeypatch.setattr(Decoding, "crops", lambda self, step: (asked.append(step), crops(self, step))[1])
    told: list[str] = []
    with pytest.raises(StoppedError):
        on_pictures(data, tmp_path / "none", cache="none", progress=Progress(stopped=lambda: len(asked) == 3))
    run = train(data, out=tmp_path / "none", resume=True, progress=Progress(event=lambda event: told.append(event.get("text", ""))))
    assert (run.require_images().cache, run.require_images().cache_gb) == ("none", 0.0)
    assert any(text.startswith("training images are decoded whenever they are needed, by ") for text in told)
    assert asked == sorted(asked)
    evaluate(run.folder, arch="largest")
    assert len(kept("index.npy")) == 2  # of the training and the test images
    assert not kept("pixels.bin")

    stops = iter([False, True])
    with pytest.raises(StoppedError):
        on_pictures(data, tmp_path / "decoded", cache="auto", progress=Progress(stopped=lambda: next(stops)))
    begun = Run.open(tmp_path / "decoded").require_images()
    assert (begun.cache, begun.cache_gb) == ("decoded", 8.0)
    assert kept("pixels.bin")
    seen = len(asked)
    other = train(data, out=tmp_path / "decoded", resume=True, cache="none")
    assert len(asked) > seen
    assert other.weights_hash() == run.weights_hash()
    assert Run.open(other.folder).require_images().cache == "none"
    train(data, out=other.folder, resume=True, cache="auto")
    assert (Run.open(other.folder).require_images().cache, Run.open(other.folder).require_images().cache_gb) == ("decoded", 8.0)
    assert on_pictures(data, tmp_path / "whole").weights_hash() == run.weights_hash()


def test_an_image_that_is_gone_ends_a_training_in_a_line(data: str, tmp_path: Path) -> None:
    """And the training goes on when it is back."""
    path, asked = Path(data), []

    def gone() -> bool:
        asked.append(None)
        if len(asked) == 1:
            path.rename(path.with_name("away"))
        return False

    with pytest.raises(DataError, match=r"class ./.*\.jpg: no such file"):
        on_pictures(data, tmp_path / "run", cache="none", epochs=40.0, progress=Progress(stopped=gone))
    path.with_name("away").rename(path)
    asked.append(None)
    with pytest.raises(StoppedError):
        train(data, out=tmp_path / "run", resume=True, progress=Progress(stopped=lambda: len(asked) > 1))


def test_a_way_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^--cache all: choose from auto, decoded, none$"):
        train("digits", out=tmp_path / "run", cache="all")
