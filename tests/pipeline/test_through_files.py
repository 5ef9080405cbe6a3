"""Accuracy and latency through exported files, and what makes the command fail."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from formats_here import EXTRAS, format_here, formats_of
from onceforall.calibrate import Accuracy
from onceforall.common.files import read_json, write_json
from onceforall.common.progress import Progress
from onceforall.common.readable import milliseconds
from onceforall.errors import VerificationError
from onceforall.export import FORMATS
from onceforall.export import folder as export_folder
from onceforall.export.program import write_preprocess
from onceforall.latency import Device, Timing
from onceforall.pipeline import Budget, Run, specialise
from onceforall.pipeline.profile import latency_table
from onceforall.pipeline.specialising import through_files
from onceforall.pipeline.specialising.through_files import require_enough_held_out, require_same, too_large_drop
from onceforall.preprocess import LARGE


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_format_is_measured_through_its_file(run_copy: Path, extra: str) -> None:
    formats = list(dict.fromkeys(("pytorch", *formats_of(extra))))
    (result,) = specialise(run_copy, [Budget()], finalists=1, export=formats, max_drop=100)
    assert [row.format for row in result.files] == formats
    for row in result.files:
        assert row.latency is not None
        assert 0 < row.latency[1] <= row.latency[0] <= row.latency[2]
        if not FORMATS[row.format].int8:
            assert row.top1 == pytest.approx(result.test.top1)
    written = read_json(run_copy / "specialised" / f"{result.folder.name}.json")["files"]
    assert [(row["format"], row["top1"]) for row in written] == [(row.format, row.top1) for row in result.files]
    card = (result.folder / "README.md").read_text()
    assert card.count("| extracted network |") == card.count("| sub-network of the supernet |") == len(formats)


@pytest.mark.parametrize("value", [-1.0, 101.0, float("nan")])
def test_max_drop_is_in_points(run_copy: Path, value: float) -> None:
    with pytest.raises(VerificationError, match=r"--max-drop .*: give points of top-1, from 0 to 100"):
        specialise(run_copy, [Budget()], max_drop=value)


def test_int8_that_loses_too_much_is_told_with_numbers() -> None:
    before, after = Accuracy(0.9, 1.0, 0.1, 200), Accuracy(0.87, 1.0, 0.1, 200)
    assert too_large_drop(before, after, 3.0) is None
    assert too_large_drop(after, before, 0.0) is None
    assert too_large_drop(before, after, 2.9) == (
        "int8 loses 3.0 points of top-1 on 200 held-out images (90.0 to 87.0 %), more than the 2.9 that --max-drop allows"
    )


@pytest.mark.parametrize(("images", "max_drop"), [(50, 2.0), (10, 10.0), (10, 0.0), (1, 100.0), (143, 0.7)])
def test_a_drop_that_the_held_out_images_can_tell(images: int, max_drop: float) -> None:
    require_enough_held_out(["onnx", "onnx-int8"], images, max_drop)


def test_held_out_images_that_cannot_tell_what_int8_loses(run_copy: Path) -> None:
    require_enough_held_out(["onnx", "openvino"], 10, 2.0)  # no int8
    started: list[str] = []
    message = (
        r"^one of the 10 held-out images is 10 points of top-1, so they cannot show whether onnx-int8 loses at most 2: "
        r"give --max-drop 10 or more, or 0 for no image lost, or leave it out$"
    )
    with pytest.raises(VerificationError, match=message):
        specialise(run_copy, [Budget()], export=["onnx", "onnx-int8"], progress=Progress(say=started.append))
    assert [text for text in started if "the predictor's ranking" not in text] == []


def test_another_accuracy_by_the_cards_program_fails_the_command(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preprocessing that is not the one of evaluation: the card must not be written."""

    def another(folder: Path) -> None:
        write_preprocess(folder)
        path = folder / "preprocess.py"
        path.write_text(path.read_text().replace("    rows += np.tile(", "    rows *= 0\n    rows += np.tile("))

    monkeypatch.setattr(export_folder, "write_preprocess", another)
    steps: list[str] = []
    with pytest.raises(VerificationError, match=r"weights\.safetensors: .* through the file is .*, the network's is "):
        specialise(run_copy, [Budget()], finalists=1, export=["pytorch"], progress=Progress(say=steps.append))
    assert any(step.startswith("measuring test accuracy with the card's programs in a separate process, ") for step in steps)
    assert not list(run_copy.glob("specialised/*"))


def test_a_run_of_before_there_was_a_limit_of_pixels_keeps_the_old_one(run_copy: Path) -> None:
    data = read_json(run_copy / "run.json")
    assert data["data"].pop("max_pixels") is None
    write_json(run_copy / "run.json", data)
    run = Run.open(run_copy)
    assert run.require_images().max_pixels == LARGE
    assert run.splits().fingerprint == data["data"]["fingerprint"]


def test_another_accuracy_through_the_file_is_refused() -> None:
    own = Accuracy(0.9, 1.0, 0.1, 200)
    require_same("model.onnx", own, Accuracy(0.905, 1.0, 0.1, 200))  # one image
    with pytest.raises(VerificationError, match=r"model\.onnx: test top-1 through the file is 91\.00 %.* 2 of 200 images"):
        require_same("model.onnx", own, Accuracy(0.91, 1.0, 0.1, 200))


def test_all_files_of_a_card_are_timed_by_one_measurement(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latency at the top of the card is that of the device's file in the list, and all are at the level of the profile."""
    real, calls = through_files.measure_functions, list[dict[str, Any]]()

    def measured(functions: Sequence[Callable[[], object]], device: Device, **arguments: Any) -> list[Timing]:
        calls.append({"functions": len(functions), "device": device, "anchor": arguments["anchor"]})
        return real(functions, device, **arguments)

    monkeypatch.setattr(through_files, "measure_functions", measured)
    formats = [format_here(name) for name in ("onnx", "onnx-int8")]
    (result,) = specialise(run_copy, [Budget()], finalists=1, export=formats, max_drop=100)
    (call,) = calls
    assert call["functions"] == len(result.files) == 1 + len(formats)
    table = latency_table(Run.open(run_copy), "cpu")
    assert call["anchor"] == table.anchor
    (row,) = [row for row in result.files if row.format == "onnx"]
    assert row.latency == (result.latency.ms, result.latency.low, result.latency.high)
    text = f"{milliseconds(result.latency.ms)} ({result.latency.low:.3g} – {result.latency.high:.3g})"
    assert (result.folder / "README.md").read_text().count(text) == 2


def test_a_file_far_over_the_budget_is_timed_again(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = through_files.measure_functions, list[list[Timing]]()

    def disturbed(functions: Sequence[Callable[[], object]], device: Device, **arguments: Any) -> list[Timing]:
        found = real(functions, device, **arguments) if calls else [Timing(1e4, 1e4, 1e4, 9) for _ in functions]
        calls.append(found)
        return found

    monkeypatch.setattr(through_files, "measure_functions", disturbed)
    arch = Run.open(run_copy).space.smallest()
    (result,) = specialise(run_copy, [Budget(latency_ms=5000.0)], arch=arch, export=["onnx"])
    assert len(calls) == 2
    assert [row.latency for row in result.files] == [(t.ms, t.low, t.high) for t in calls[1]]
    assert result.latency in calls[1]


@pytest.mark.parametrize(
    ("runtime", "format"), [("pytorch", "pytorch"), ("openvino", "openvino"), ("onnxruntime-int8", "onnx-int8")]
)
def test_the_latency_of_a_device_is_that_of_its_file(run_copy: Path, runtime: str, format: str) -> None:
    format_here(format)
    arch = Run.open(run_copy).space.smallest()
    (result,) = specialise(run_copy, [Budget()], arch=arch, device=runtime, export=[format], max_drop=100)
    (row,) = [row for row in result.files if row.format == format]
    assert row.latency == (result.latency.ms, result.latency.low, result.latency.high)
