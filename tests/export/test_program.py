"""What a card's program sees is what evaluation sees, for every kind of file, to the bit; and how the program can fail."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from kinds_of_images import KINDS, encoded, smooth
from onceforall.data import PREPROCESSING, Images, eval_batches, open_data
from onceforall.errors import VerificationError
from onceforall.export import FORMATS, Program, program_of, run_programs
from onceforall.export.program import write_preprocess
from onceforall.preprocess import INTERPOLATIONS

LOOK = "logits = x.reshape(1, -1)"  # gives the network's input itself


def seen(images: Images, resolution: int, folder: Path) -> np.ndarray:
    """What the card's program gives to the network, in a process of its own: (n, 3, resolution, resolution)."""
    folder.mkdir(parents=True)
    write_preprocess(folder)
    steps = {
        "mean": PREPROCESSING.mean,
        "std": PREPROCESSING.std,
        "crop_share": 0.875,
        "resolution": resolution,
        "max_pixels": None,
    }
    (folder / "config.json").write_text(json.dumps({"preprocessing": steps}))
    (folder / "files").mkdir()
    found = run_programs(folder, {"look": program_of(LOOK)}, images.files(folder / "files"))["look"]
    return found.reshape(len(images), 3, resolution, resolution)


def evaluated(images: Images, resolution: int) -> np.ndarray:
    return torch.cat([x for x, _ in eval_batches(images, resolution, 7)]).numpy()


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Test images of every kind, in their own order."""
    root = tmp_path_factory.mktemp("kinds")
    for seed, name in enumerate(8 * ["a", "b"]):
        path = root / "train" / name / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(path)
    for i, make in enumerate(KINDS.values()):
        path = root / "test" / "ab"[i % 2] / f"{i:02}.png"  # what is in a file says its first bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make())
    splits = open_data(str(root), size=32, cache=root / "cache")
    assert all(problem.reason.startswith("kept: ") for problem in splits.problems)  # equal pixels under both labels
    images = splits.open_test("a test")
    assert len(images) == len(KINDS)
    return images.subset(np.random.default_rng(0).permutation(len(images)))


@pytest.mark.parametrize("resolution", [16, 28, 33, 64])
def test_the_card_sees_what_evaluation_sees_whatever_the_file(every_kind: Images, resolution: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(seen(every_kind, resolution, tmp_path / "export"), evaluated(every_kind, resolution))


def test_images_that_are_no_files_are_handed_over_as_they_are(tmp_path: Path) -> None:
    digits = open_data("digits", size=32, cache=tmp_path / "cache", limit=60).open_test("a test")
    np.testing.assert_array_equal(seen(digits, 20, tmp_path / "digits"), evaluated(digits, 20))
    kinds = ("jpeg", "rgba", "16 bit", "jpeg, turned 6", "gif")
    (tmp_path / "data").mkdir()
    for split, rows in (("train", [encoded(noise(i), "PNG") for i in range(16)]), ("test", [KINDS[kind]() for kind in kinds])):
        table = pa.table({"image": rows, "label": [i % 2 for i in range(len(rows))]})
        pq.write_table(table, tmp_path / "data" / f"{split}-00000.parquet")
    images = open_data(str(tmp_path / "data"), size=32, cache=tmp_path / "cache").open_test("a test")
    assert len(images) == len(kinds)
    np.testing.assert_array_equal(seen(images, 24, tmp_path / "parquet"), evaluated(images, 24))


def test_evaluation_takes_one_resize_of_the_original(every_kind: Images) -> None:
    """Not of what training keeps, which was decoded and shrunk before."""
    names = every_kind.names
    (at,) = [i for i, name in enumerate(names) if name.endswith(f"{list(KINDS).index('jpeg, large'):02}.png")]
    original = Image.open(io.BytesIO(KINDS["jpeg, large"]())).convert("RGB")
    expected = original.resize((25, 19), Image.Resampling.BILINEAR).crop((4, 2, 20, 18))
    (pixels,) = every_kind.fitted([np.array([at])], 16, PREPROCESSING)
    np.testing.assert_array_equal(pixels[0], np.asarray(expected))
    assert min(every_kind.pixels(at).shape[:2]) == 32


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ("import onceforall\nlogits = x", r"in a separate Python process: bad: ModuleNotFoundError: import of onceforall halted"),
        ("from model import load\nlogits = load(x)", "bad: ModuleNotFoundError: No module named 'model'"),
        ("answer = x", "bad: .*photo.png: KeyError: 'logits'"),
        ("logits = x / missing", "bad: .*photo.png: NameError: name 'missing' is not defined"),
        ("import os\nos._exit(3)\nlogits = x", "exit code 3"),
    ],
)
def test_a_program_that_fails_is_one_line(usage: str, message: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    smooth().save(photo)
    with pytest.raises(VerificationError, match=message) as caught:
        run_programs(tmp_path, {"bad": Program("", "x = 'photo.jpg'", usage)}, [photo])
    assert "\n" not in str(caught.value)


def test_a_photograph_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_preprocess(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"preprocessing": {"resolution": 8, "mean": [0.5] * 3}}))
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"ValueError: .*photo\.png: empty"):
        run_programs(tmp_path, {"look": program_of(LOOK)}, [tmp_path / "photo.png"])


def test_the_process_of_its_own_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this process's path to onceforall nor a module of the same name elsewhere is seen; nothing is left behind."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "preprocess.py").write_text("raise SystemExit('the wrong one')")
    source = str(Path(sys.modules["onceforall"].__file__ or "").parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, str(tmp_path / "elsewhere")]))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    folder = tmp_path / "export"
    folder.mkdir()
    write_preprocess(folder)
    photo = tmp_path / "photo.png"
    smooth().save(photo)
    once = "import os, sys, numpy as np, preprocess"
    hidden = "sys.modules['onceforall'] is None"  # where it is installed, the interpreter itself leads to it
    usage = f"logits = np.array([[len(preprocess.INTERPOLATIONS), {source!r} in os.environ.get('PYTHONPATH', ''), {hidden}]])"
    found = run_programs(folder, {"a": Program(once, 'x = "photo.jpg"', usage)}, [photo, photo])
    assert found["a"].tolist() == [[len(INTERPOLATIONS), 0, 1]] * 2
    assert [path.name for path in folder.iterdir()] == ["preprocess.py"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_last_statement_of_every_usage_makes_the_logits(name: str) -> None:
    import ast

    *before, last = ast.parse(FORMATS[name].usage).body
    assert "logits = " in ast.unparse(last)
    assert "load" not in ast.unparse(last), "what is read once is read before"
    assert before
