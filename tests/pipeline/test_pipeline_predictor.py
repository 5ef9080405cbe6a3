"""Fitting anew, comparing, showing and asking the predictor of a run, as functions and as commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from onceforall.accuracy import fit_rows, read_rows, suggest
from onceforall.arch import Arch
from onceforall.cli import run as ofa
from onceforall.common.progress import Progress
from onceforall.costs import macs_table, segment_table
from onceforall.errors import CheckpointError, DataError, FileError
from onceforall.pipeline import Run, compare_predictors, fit_predictor, measure_accuracy, next_subnets, predict, show_predictor
from onceforall.pipeline.accuracies.predictor import load_predictor
from tiny_run import SUBNETS


def test_fit_uses_what_was_measured_and_keeps_what_was_set_aside(run_copy: Path) -> None:
    before = json.loads((run_copy / "accuracy" / "errors.json").read_text())
    (run_copy / "accuracy" / "predictor.safetensors").unlink()
    found = fit_predictor(run_copy, seed=1)
    assert {row.arch.to_json() for row in found.checked} == set(before["checked"])
    assert len(found.fitted) + len(found.checked) == SUBNETS
    after = json.loads((run_copy / "accuracy" / "errors.json").read_text())
    assert after["rmse"] == found.errors.rmse
    assert after["ceiling"] == found.ceiling
    assert 0 <= (found.ceiling or 0) <= 1
    again, checked = load_predictor(Run.open(run_copy)), [row.arch for row in found.checked]
    np.testing.assert_allclose(again.predict(checked), found.predictor.predict(checked), rtol=1e-6)
    only = fit_predictor(run_copy, kinds=["smooth"])
    assert only.predictor.kind == "smooth"
    with pytest.raises(DataError, match="choose from linear"):
        fit_predictor(run_copy, kinds=["forest"])


@pytest.mark.parametrize(
    ("tau", "ceiling", "text"),
    [
        (
            -0.91,
            0.9,
            "the predictor's ranking is not measurably better than chance (Kendall tau -0.91 on 20 others)",
        ),
        (0.26, 0.9, "the predictor's ranking is not measurably better than chance (Kendall tau 0.26 on 20"),
        (0.29, 0.29, "the held-out images can hardly tell these sub-networks apart"),
        (0.6, 0.9, None),
    ],
)
def test_a_predictor_that_knows_nothing_is_told(
    run_copy: Path, capfd: pytest.CaptureFixture[str], tau: float, ceiling: float, text: str | None
) -> None:
    path = run_copy / "accuracy" / "errors.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kendall_tau": tau, "ceiling": ceiling, "n": 20}))
    assert ofa(["search", str(run_copy), "--macs", "100M", "--finalists", "1"]) == 0
    _, err = capfd.readouterr()
    assert err.count("for a better choice train with more images") == (text is not None)
    assert (text or "") in err


def test_fit_sets_a_quarter_aside_where_none_is(run_copy: Path) -> None:
    (run_copy / "accuracy" / "errors.json").unlink()
    found = fit_predictor(run_copy)
    assert (len(found.fitted), len(found.checked)) == (12, 4)
    assert {row.arch for row in fit_predictor(run_copy, seed=5).checked} == {row.arch for row in found.checked}  # from now on


def test_too_few_rows(trained: Path, run_copy: Path) -> None:
    with pytest.raises(DataError, match="0 sub-networks are measured, at least 16 are needed: ofa accuracy measure"):
        fit_predictor(trained)
    with pytest.raises(DataError, match="--samples 100: give numbers from 12 to 12, the number of measured sub-networks"):
        compare_predictors(run_copy, samples=[100])
    with pytest.raises(FileError, match="no accuracy predictor yet: ofa predict"):
        next_subnets(trained)
    with pytest.raises(FileError, match="no accuracy predictor yet: ofa predict"):
        show_predictor(trained)


def test_another_supernet(run_copy: Path) -> None:
    run = Run.open(run_copy)
    weights = run_copy / "supernet.safetensors"
    weights.write_bytes((run_copy / "teacher.safetensors").read_bytes())
    assert run.weights_hash() != ""
    with pytest.raises(DataError, match="the supernet has been trained since"):
        fit_predictor(run_copy)
    with pytest.raises(CheckpointError, match="this predictor was made for the supernet with weights"):
        next_subnets(run_copy)


def test_commands(run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def out(*arguments: str, code: int = 0) -> str:
        assert ofa(["predictor", *arguments]) == code
        return capsys.readouterr()[0 if code == 0 else 1]

    assert "fitted on 12 sub-networks" in out("fit", str(run_copy), "--kinds", "linear,pairwise")
    assert json.loads(out("fit", str(run_copy), "--json"))["fitted_on"] == 12
    lines = out("compare", str(run_copy), "--samples", "12").splitlines()
    assert len(lines) == 5
    assert out("compare", str(run_copy)).splitlines() == lines  # by default all that there are
    assert ofa(["predictor", "compare", str(run_copy), "--samples", "12,5000"]) == 0
    assert "skipped 5000: 12 to 12 sub-networks can be fitted to" in capsys.readouterr().err
    assert [line.split()[1].rstrip("*") for line in lines[1:4]] == ["linear", "pairwise", "smooth"]
    assert sum("*" in line for line in lines[1:4]) == 1
    assert len(json.loads(out("compare", str(run_copy), "--samples", "12", "--json"))) == 3
    assert "fitted on 12 sub-networks" in out("show", str(run_copy))
    shown = json.loads(out("show", str(run_copy), "--json"))
    assert shown["errors"]["n"] == 4
    assert set(shown["calibration"]) == {"scale", "misfit", "noise"}
    run = Run.open(run_copy)
    known = {row.arch for row in read_rows(run_copy / "accuracy", run.space)}
    listed = [Arch.from_json(line) for line in out("next", str(run_copy), "--subnets", "5").splitlines()]
    assert len(set(listed) - known) == 5
    file = tmp_path / "next.jsonl"
    assert out("next", str(run_copy), "--subnets", "5", "--out", str(file)) == ""
    assert [Arch.from_json(line) for line in file.read_text().splitlines()] == listed
    assert ofa(["measure-accuracy", str(run_copy), "--archs", str(file)]) == 0
    capsys.readouterr()
    assert ofa(["measure-accuracy", str(run_copy), "--archs", str(file), "--subnets", "7"]) == 1
    assert "--archs and --subnets exclude each other" in capsys.readouterr().err
    assert json.loads(out("fit", str(run_copy), "--json"))["fitted_on"] == 17
    assert "--samples 1,x: give whole numbers separated by commas" in out("compare", str(run_copy), "--samples", "1,x", code=2)
    assert "not a run directory" in out("show", str(tmp_path), code=1)


def test_predict_uses_what_else_was_measured(run_copy: Path) -> None:
    found = predict(run_copy, subnets=SUBNETS)
    assert len(found.fitted) == 12
    assert found.ceiling is None or 0 <= found.ceiling <= 1


def test_of_many_the_last_are_chosen_by_the_predictor_so_far(trained: Path, tmp_path: Path) -> None:
    """In two rounds, better ones than were drawn; the same call chooses the same, whatever else was measured in between."""
    run = Run.open(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(run.folder / "accuracy", ignore_errors=True)
    counts: list[tuple[int, int]] = []
    found = predict(run.folder, subnets=40, progress=Progress(count=lambda done, total, what: counts.append((done, total))))
    assert (len(found.fitted), len(found.checked)) == (30, 10)
    assert counts[-1] == (40, 40)
    assert counts == sorted(counts)
    rows = read_rows(run.folder / "accuracy", run.space)
    assert len(rows) == 40
    drawn, chosen = rows[:28], rows[28:]
    assert {row.arch for row in found.checked} <= {row.arch for row in drawn}
    own = [row for row in drawn if row not in found.checked]
    guess = fit_rows(run.space, own, weights_hash=run.weights_hash())
    first = {row.arch for row in chosen[:6]}
    assert first == set(suggest(guess, macs_table(segment_table(run.space, 10)), 6, known=[row.arch for row in drawn], seed=0))
    measure_accuracy(run.folder, archs=[run.space.sample(np.random.default_rng(9))])
    again = predict(run.folder, subnets=40)
    assert len(read_rows(run.folder / "accuracy", run.space)) == 41
    assert len(again.fitted) == 31
    assert [row.arch for row in again.checked] == [row.arch for row in found.checked]
