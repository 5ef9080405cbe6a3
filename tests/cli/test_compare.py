"""`ofa compare` on the digits: who wins is told, what was stopped goes on, and one line for what cannot be."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from failing import fails

from onceforall.cli import run
from onceforall.common.progress import Progress
from onceforall.errors import StoppedError
from onceforall.pipeline import Run, compare, status
from onceforall.pipeline.comparison.fixed import Told, asked_for, brought_in, fine_tuned
from onceforall.pipeline.training.compute import choose_compute
from onceforall.train.checkpoint import load_tensors
from tiny_own import OWN, TRANSFORMER, source
from tiny_run import edited, openings, pictures

TWO = OWN + "\n\ndef seven():\n    return Net(7)\n"


@pytest.fixture
def networks(tmp_path: Path) -> str:
    """A file with Net, of ten classes, and seven, of seven."""
    return source(tmp_path, TWO).rpartition(":")[0]


@pytest.fixture(scope="module")
def compared(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a comparison; copy what you change."""
    place = tmp_path_factory.mktemp("compared")
    (place / "own.py").write_text(TWO)
    folder = Path(shutil.copytree(measured, place / "run"))
    compare(folder, [f"{place / 'own.py'}:Net@16", f"{place / 'own.py'}:seven"], epochs=2, finalists=2)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be trained any more."""

    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("onceforall.pipeline.comparison.fixed.follow_schedule", never)


def result(folder: Path) -> Any:
    return json.loads((folder / "compare" / "result.json").read_text())


def test_what_is_found(compared: Path) -> None:
    found = json.loads((compared / "compare" / "result.json").read_text())
    small, large = found["fixed"]
    assert (small["name"], small["resolution"]) == ("own.py:Net@16", 16)
    assert (large["name"], large["resolution"]) == ("own.py:seven@24", 24)  # the run's largest images
    assert small["macs"] < large["macs"]
    assert small["epochs"] == large["epochs"] == 2
    test = json.loads((compared / "run.json").read_text())["images"]["test"]
    for one in (*found["fixed"], *found["ours"]):
        assert one["images"] == test
        assert 0 <= one["balanced"] <= 1
        assert one["ms_low"] <= one["ms"] <= one["ms_high"]
    assert 1 <= found["uneven"] < 3
    by_name = {one["name"]: one for one in (*found["fixed"], *found["ours"])}
    kinds = [next(name for name, value in v["budget"].items() if value is not None) for v in found["verdicts"]]
    assert kinds == ["latency_ms", "latency_ms", "macs", "macs", "params"]  # both have as many parameters
    for v in found["verdicts"]:
        assert v["of"]
        if v["ours"] and v["fixed"]:
            assert v["difference"] == pytest.approx(by_name[v["ours"]]["test"] - by_name[v["fixed"]]["test"])
            assert v["low"] < v["difference"] < v["high"]
        for kind in ("macs", "params"):
            if v["budget"][kind] is not None:
                assert all(by_name[v[side]][kind] <= v["budget"][kind] for side in ("ours", "fixed") if v[side])
    assert any(v["difference"] is not None for v in found["verdicts"])
    assert [row["devices"] for row in found["costs"]["devices"]] == [1, 3, 10]
    assert found["costs"]["fixed"] == pytest.approx((small["seconds"] + large["seconds"]) / 2)
    assert openings(compared)[-1]["purpose"] == "comparison with own.py:Net@16, own.py:seven@24"


def test_every_network_is_a_file(compared: Path) -> None:
    places = sorted(path for path in (compared / "compare").iterdir() if path.is_dir())
    assert [place.name.rpartition("-")[0] for place in places] == ["own.py-Net@16", "own.py-seven@24"]
    for place in places:
        assert not (place / "checkpoints").exists()
        facts = json.loads((place / "network.json").read_text())
        tensors, _ = load_tensors(place / "network.safetensors")
        assert all(tensor.isfinite().all() for tensor in tensors.values())  # statistics too
        assert tensors["head.weight"].shape == (10, 8)  # a new classifier where there were seven classes
        assert facts["held_out"]["images"] > 0


def test_the_command_tells_it_again(capsys: pytest.CaptureFixture[str], compared: Path, tmp_path: Path, quick: None) -> None:
    folder, file = Path(shutil.copytree(compared, tmp_path / "run")), compared.parent / "own.py"
    before = len(openings(folder))
    given = ["compare", str(folder), "--with", f"{file}:Net@16,{file}:seven", "--epochs", "2", "--finalists", "2"]
    assert run([*given, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == result(folder)
    assert "as compared before" in err
    assert len(openings(folder)) == before  # the test images stay closed
    assert run(given) == 0
    out, _ = capsys.readouterr()
    assert "own.py:Net@16 (16 px): test top-1 " in out
    assert "within each budget, ours against the fixed network that is best on held-out images:" in out
    assert out.count(" points (") + out.count("keeps it") == 5
    assert "ours is at least as accurate in " in out
    assert "  10 devices: ours " in out
    (folder / "compare" / "result.json").unlink()  # trained networks are not trained again; another budget
    assert run([*given, "--latency", "1s", "--macs", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("trained before") == 2
    found = json.loads(out)
    assert len(found["verdicts"]) == 7
    (all_fit,) = (v for v in found["verdicts"] if v["budget"]["latency_ms"] == 1000)
    assert all_fit["ours"] is not None
    (none_fits,) = (v for v in found["verdicts"] if v["budget"]["macs"] == 1)
    assert (none_fits["winner"], none_fits["ours"], none_fits["fixed"]) == ("none", None, None)
    assert any(note.startswith("none of ours for ") for note in found["notes"])


def test_other_comparisons_are_kept(capsys: pytest.CaptureFixture[str], compared: Path, tmp_path: Path, quick: None) -> None:
    folder, file = Path(shutil.copytree(compared, tmp_path / "run")), compared.parent / "own.py"
    first, given = result(folder), ["compare", str(folder), "--with", f"{file}:Net@16", "--epochs", "2", "--finalists", "2"]
    assert run(given) == 0
    kept = folder / "compare" / f"result-{first['key']}.json"
    assert f"which is kept as {kept}" in capsys.readouterr().err
    assert json.loads(kept.read_text()) == first
    before = len(openings(folder))
    again = ["compare", str(folder), "--with", f"{file}:Net@16,{file}:seven", "--epochs", "2", "--finalists", "2", "--json"]
    assert run(again) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == first == result(folder)  # the last one again, and the other one is kept
    assert "as compared before: to search, time and open the test images again, remove " in err
    (other,) = (folder / "compare").glob("result-*.json")
    assert other != kept
    assert run(["compare", str(folder), "--json"]) == 0  # names no network: the last one
    out, err = capsys.readouterr()
    assert json.loads(out) == first
    assert "the last comparison, from " in err
    assert len(openings(folder)) == before


def test_by_the_run_s_metric(capsys: pytest.CaptureFixture[str], compared: Path, tmp_path: Path, quick: None) -> None:
    """As trained and measured with --metric balanced."""
    folder, file = Path(shutil.copytree(compared, tmp_path / "run")), compared.parent / "own.py"
    edited(folder / "run.json", lambda data: data.update(metric="balanced"))
    given = ["compare", str(folder), "--with", f"{file}:Net@16,{file}:seven", "--epochs", "2", "--finalists", "2"]
    assert run(given) == 0
    out, err = capsys.readouterr()
    assert "as compared before" not in err  # then top-1 decided
    assert "own.py:Net@16 (16 px): test balanced accuracy " in out
    assert "ours is at least as accurate by balanced accuracy in " in out
    found = result(folder)
    assert found["metric"] == "balanced"
    by_name = {one["name"]: one for one in (*found["fixed"], *found["ours"])}
    differences = [v for v in found["verdicts"] if v["difference"] is not None]
    for v in differences:
        assert v["difference"] == pytest.approx(by_name[v["ours"]]["balanced"] - by_name[v["fixed"]]["balanced"])
        assert v["low"] < v["difference"] < v["high"]
    assert differences
    page = tmp_path / "page.html"
    assert run(["report", str(folder), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Ours and fixed networks: balanced accuracy against latency on " in text
    assert "the winner has the higher balanced accuracy on the same test images" in text


def test_the_report_has_a_section(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, compared: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("onceforall.report.fronts.FRONT_EVALUATIONS", 3000)
    page = tmp_path / "page.html"
    assert run(["report", str(compared), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    section = text[text.index('<section id="compared"') : text.index('<section id="subnets"')]
    assert "Ours and fixed networks: top-1 against latency on " in section
    assert section.count("<svg") == 1
    assert "own.py:seven@24" in section
    assert "Who wins within each budget" in section
    assert "at least as accurate in " in section
    capsys.readouterr()
    assert run(["status", str(compared)]) == 0
    assert "with own.py:Net@16, own.py:seven@24: ours is at least as accurate in " in capsys.readouterr().out


def test_goes_on_after_a_stop(run_copy: Path, networks: str, tmp_path: Path) -> None:
    """The weights are those of a training without a stop."""
    steps, asked = count(1), [f"{networks}:seven@16"]

    def soon() -> bool:
        return next(steps) == 3

    with pytest.raises(StoppedError, match=r"own.py:seven@16: stopped at step 3 of \d+; the same ofa compare resumes it"):
        compare(run_copy, asked, epochs=2, progress=Progress(stopped=soon))
    (place,) = (path for path in (run_copy / "compare").iterdir() if path.is_dir())
    assert (place / "checkpoints").exists()
    assert not (place / "network.json").exists()
    (part,) = (part for part in status(run_copy).parts if part.name == "comparison")
    assert part.state == "unfinished"
    assert part.text.startswith(f"{place.name}: step 3 of ")
    torch.manual_seed(99)  # of which nothing depends
    other = Path(shutil.copytree(run_copy, tmp_path / "other"))
    shutil.rmtree(other / "compare")
    seen: list[int] = []

    def told(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            seen.append(event["step"])

    found = []
    for folder in (run_copy, other):
        one, (named,) = Run.open(folder), asked_for(asked, 24)
        asked_and_told = named, Told(epochs=2)
        network, compute = brought_in(one, *asked_and_told), choose_compute("cpu")
        trained = fine_tuned(one, one.splits(), *asked_and_told, network, compute=compute, progress=Progress(event=told))
        assert trained.folder.name == place.name
        found.append(load_tensors(trained.folder / "network.safetensors")[0])
    assert seen[0] > 3
    first, second = found
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_by_default_as_much_work_as_the_run(run_copy: Path, networks: str) -> None:
    notes: list[str] = []

    class Enough(Exception):
        pass

    def told(event: dict[str, str]) -> None:
        if event["event"] == "phase":
            raise Enough
        notes.append(event.get("text", ""))

    with pytest.raises(Enough):
        compare(run_copy, [f"{networks}:Net@16"], progress=Progress(event=told))  # type: ignore[arg-type]
    assert any("as many multiply-accumulates as the training of the run took" in note for note in notes)
    with pytest.raises(Enough):  # in a folder of its own; TensorBoard's thread may still write to the other
        compare(run_copy, [f"{networks}:Net@16"], budget_s=5.0, progress=Progress(event=told))  # type: ignore[arg-type]
    assert any("steps), within 5.0 s" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--with", "nosuch"], 1, "--with 'nosuch': give timm:NAME"),
        (["--with", "OWN:Net@big"], 1, "after @ the side of the images in pixels is needed"),
        (["--with", "OWN:Net@24,OWN:Net"], 1, "two networks are called own.py:Net@24"),
        (["--with", ","], 1, "nothing compared yet: name networks"),
        (["--with", "OWN:none"], 1, "own.py"),
        (["--with", "torchvision:resnet19"], 1, "did you mean"),
        (["--with", "OWN.24:Net@16", "--epochs", "1"], 1, "give another @PIXELS"),
        (["--with", "OWN:Net", "--epochs", "1", "--budget", "1m"], 1, "exclude each other"),
        (["--with", "OWN:Net", "--epochs", "0"], 1, "--epochs 0: give a number above 0"),
        (["--with", "OWN:Net", "--epochs", "0.01"], 1, "less than one training step"),
        (["--with", "OWN:Net", "--device", "openvino"], 1, "has not been profiled yet: ofa profile"),
        ([], 1, "nothing compared yet: name networks, e.g. --with "),
        (["--epochs", "2"], 1, "--with names no network: give one"),
        (["--with", "OWN:Net@16,OWN:none", "--epochs", "1"], 1, "own.py"),
    ],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str], run_copy: Path, networks: str, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    only_24 = source(tmp_path, TRANSFORMER, file="vit.py")
    given = [argument.replace("OWN.24:Net", only_24).replace("OWN", networks) for argument in arguments]
    given = ["compare", str(run_copy), *given]
    assert message in fails(capsys, given, code)
    assert not (run_copy / "compare" / "result.json").exists()
    assert not list((run_copy / "compare").glob("*/network.json")), "a wrong name stops before the others are trained"


def test_runs_that_cannot_be_compared(
    capsys: pytest.CaptureFixture[str], imported: Path, run_copy: Path, networks: str, tmp_path: Path
) -> None:
    given = ["--with", f"{networks}:Net@16", "--epochs", "1"]
    shutil.rmtree(run_copy / "accuracy")
    assert "no accuracy predictor yet: ofa predict" in fails(capsys, ["compare", str(run_copy), *given], 1)
    (run_copy / "supernet.safetensors").unlink()
    assert "its training has not finished: ofa train" in fails(capsys, ["compare", str(run_copy), *given], 1)
    assert "imported" in fails(capsys, ["compare", str(imported), *given], 1)
    assert "a folder of images" in fails(capsys, ["compare", str(pictures(tmp_path / "photos")), *given], 1)


def test_damaged_results(capsys: pytest.CaptureFixture[str], compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "run"))
    edited(folder / "compare" / "result.json", lambda data: data.pop("verdicts"))
    given = ["compare", str(folder), "--with", f"{compared.parent / 'own.py'}:Net@16", "--epochs", "2"]
    message = fails(capsys, given, 1)
    assert "result.json: damaged or edited" in message
    assert f"ofa compare {folder} --with NETWORKS makes it again" in message
    (place, *_) = sorted(path for path in (folder / "compare").iterdir() if path.is_dir())
    with open(place / "network.safetensors", "r+b") as file:
        file.seek(-8, 2)
        file.write(b"damaged!")
    assert "remove it to train own.py:Net@16 again" in fails(capsys, given, 1)
