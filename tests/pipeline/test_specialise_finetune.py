"""`ofa specialise --finetune`: the better network goes home, the card says so, and an interruption loses nothing."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from onceforall.calibrate import Accuracy
from onceforall.cli import run as ofa
from onceforall.common.files import locked, read_json, read_lines
from onceforall.common.progress import QUIET, Progress
from onceforall.errors import FileError, InfeasibleError, StoppedError, TrainingError, VerificationError
from onceforall.export import load
from onceforall.pipeline import Budget, Run, evaluate, specialise, status
from onceforall.pipeline.search import Searcher
from onceforall.pipeline.specialising.choose import folder_name
from onceforall.pipeline.specialising.finetune import Finetuned, Finetuning
from onceforall.pipeline.specialising.record import Specialised
from onceforall.train.checkpoint import latest

EPOCHS = 8  # of three steps


def go(folder: Path, **options: Any) -> Specialised:
    (result,) = specialise(folder, [Budget()], **{"finalists": 1, "finetune": EPOCHS, **options})
    return result


def weights(result: Specialised) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(result.folder).state_dict()
    return state


def card(result: Specialised) -> str:
    return (result.folder / "README.md").read_text()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "finetuned").glob("*/*"))


@pytest.fixture
def gentle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate at which the tiny run's networks cannot get worse in three steps."""
    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.specialising.finetune"), "RATE_SHARE", 0.005)


def test_the_fine_tuned_network_goes_home(run_copy: Path, gentle: None) -> None:
    events: list[dict[str, Any]] = []
    result = go(run_copy, progress=Progress(event=events.append))
    tuned = result.finetuned
    assert tuned is not None
    assert tuned.taken
    assert tuned.after is not None
    (before,) = evaluate(run_copy, arch=str(result.folder))
    assert (tuned.before.top1, tuned.before.images) == (before.accuracy.top1, before.accuracy.images)
    assert tuned.held_out == tuned.after
    assert tuned.after.loss != tuned.before.loss  # on 10 images, which of them is less differs between processors
    run = Run.open(run_copy)
    extracted = run.supernet().extract(result.arch)
    assert not torch.equal(weights(result)["head.classifier.weight"], extracted.get_parameter("head.classifier.weight"))
    text = card(result)
    assert f"- Fine-tuned, {EPOCHS} epochs: held-out top-1 {100 * tuned.before.top1:.1f} % before" in text
    assert "The largest sub-network was the teacher" in text
    assert "compared with the fine-tuned network alone" in text
    assert "| extracted network |" in text
    assert "| sub-network of the supernet |" not in text
    written = read_json(run_copy / "specialised" / f"{result.folder.name}.json")
    assert written["held_out_top1"] == written["finetuned"]["after"]["top1"] == tuned.after.top1
    assert written["finetuned"]["taken"] is True
    assert not (run_copy / "finetuned").exists()
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes[0].startswith(f"epoch 1 of {EPOCHS}: loss ")
    assert notes[0].endswith(" left")
    assert notes[-1] == str(tuned)


def test_a_worse_network_stays_here(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = weights(go(run_copy, finetune=0))
    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.specialising.finetune"), "RATE_SHARE", 1e6)
    result = go(run_copy)
    tuned = result.finetuned
    assert tuned is not None
    assert not tuned.taken
    assert tuned.held_out == tuned.before
    assert all(torch.equal(value, plain[name]) for name, value in weights(result).items())
    assert "the original network is kept" in card(result)
    assert "| sub-network of the supernet |" in card(result)
    assert not (run_copy / "finetuned").exists()


def test_no_worse_is_good_enough() -> None:
    before, after = Accuracy(0.5, 0.9, 0.7, 20), Accuracy(0.55, 0.9, 0.6, 20)
    assert Finetuned(3, before, after, True).held_out == after
    assert str(Finetuned(3, before, after, True)) == "fine-tuned, 3 epochs: held-out top-1 50.0 % before, 55.0 % after (20 images)"
    diverged = "fine-tuned, 3 epochs: held-out top-1 50.0 % before, diverged (20 images): the original network is kept"
    assert str(Finetuned(3, before, None, False)) == diverged
    assert len(Finetuned(3, before, None, False).notes) == 1


def test_interrupted_and_given_again(run_copy: Path, tmp_path: Path, gentle: None) -> None:
    other = Path(shutil.copytree(run_copy, tmp_path / "other"))
    whole = go(other)
    stops = iter([False] * 4 + [True])
    with pytest.raises(StoppedError, match="stopped at step 5 of 24 of fine-tuning on request; run the same command to continue"):
        go(run_copy, progress=Progress(stopped=lambda: next(stops)))
    assert leftovers(run_copy) == [".lock", "choice.json", "step-000000003.safetensors", "step-000000005.safetensors"]
    (part,) = [part for part in status(run_copy).parts if part.state == "unfinished"]
    assert part.name == "network"
    assert "fine-tuning, step 5 of 24, interrupted: the same ofa specialise resumes it" in part.text
    searched = len(read_lines(run_copy / "searches.jsonl"))
    events: list[dict[str, Any]] = []
    result = go(run_copy, progress=Progress(event=events.append))
    assert len(read_lines(run_copy / "searches.jsonl")) == searched, "the choice was written down"
    assert events[0]["text"].startswith("resuming fine-tuning of onnxruntime-best-")
    assert result.arch == whole.arch
    assert result.finetuned == whole.finetuned
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(result).items())
    assert not (run_copy / "finetuned").exists()


def test_an_export_that_failed(run_copy: Path, gentle: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fine-tuning is done, and is not done again."""

    def fail(*args: Any, **options: Any) -> None:
        raise VerificationError("as if int8 lost too much")

    module = importlib.import_module("onceforall.pipeline.specialise")
    with monkeypatch.context() as patch:
        patch.setattr(module, "measure_files", fail)
        with pytest.raises(VerificationError, match="as if"):
            go(run_copy)
    (part,) = [part for part in status(run_copy).parts if part.state == "unfinished"]
    assert "step 24 of 24, done, but not exported: the same ofa specialise resumes it" in part.text
    steps: list[dict[str, Any]] = []
    go(run_copy, progress=Progress(event=steps.append))
    assert not [event for event in steps if event.get("text", "").startswith("epoch ")]


def test_a_network_that_is_given(run_copy: Path, gentle: None) -> None:
    """An interrupted fine-tuning of one network is not gone on with for another one."""
    space = Run.open(run_copy).space
    for arch in (space.smallest(), space.largest()):
        with pytest.raises(StoppedError):
            go(run_copy, arch=arch, progress=Progress(stopped=lambda: True))
    assert len(list((run_copy / "finetuned").iterdir())) == 2
    assert go(run_copy, arch=space.largest()).arch == space.largest()


def test_two_commands_at_once(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one neither searches nor takes the folder away."""
    searcher = Searcher(Run.open(run_copy), "cpu", [Budget()])
    options = {"epochs": EPOCHS, "seed": 0, "progress": QUIET}
    tuning = Finetuning(searcher, folder_name(searcher.device, Budget()), Budget(), **options)
    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.specialise"), "confirmed", pytest.fail)
    with tuning.at_work():
        with pytest.raises(FileError, match="another command is working on it"):
            go(run_copy)
        assert tuning.folder.exists()
    assert not tuning.folder.exists(), "nothing was chosen"


def test_status_of_one_that_goes_on(run_copy: Path) -> None:
    with pytest.raises(StoppedError):
        go(run_copy, progress=Progress(stopped=lambda: True))
    (place,) = (run_copy / "finetuned").iterdir()
    with locked(place):
        (part,) = [part for part in status(run_copy).parts if part.state == "unfinished"]
    assert part.text.endswith("running now")


def test_a_search_that_fails_leaves_nothing(run_copy: Path) -> None:
    with pytest.raises(InfeasibleError):
        specialise(run_copy, [Budget(macs=1)], finetune=EPOCHS)
    assert not (run_copy / "finetuned").exists()


def test_what_was_written_is_damaged(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoppedError):
        go(run_copy, progress=Progress(stopped=lambda: True))
    (place,) = (run_copy / "finetuned").iterdir()
    for path in place.glob("step-*"):
        path.write_bytes(b"torn")
    with pytest.raises(FileError, match=r"every checkpoint is damaged .*; to fine-tune again, remove .*finetuned"):
        go(run_copy)
    (place / "choice.json").write_text('{"candidate": {}}')
    with pytest.raises(FileError, match=r"choice\.json: damaged or edited .*: remove .* to start over"):
        go(run_copy)
    assert ofa(["specialise", str(run_copy), "--no-limit", "--finetune", str(EPOCHS), "--finalists", "1"]) == 1
    assert "damaged or edited" in capsys.readouterr().err
    assert "damaged" in {part.state for part in status(run_copy).parts if part.name == "network"}


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_epochs_are_whole(run_copy: Path, value: Any) -> None:
    with pytest.raises(TrainingError, match=r"--finetune is .*: it must be a whole number of at least 0"):
        go(run_copy, finetune=value)


def test_it_learns_from_training_images_alone(measured: Path) -> None:
    searcher = Searcher(Run.open(measured), "cpu", [Budget()])
    tuning = Finetuning(searcher, "name", Budget(), epochs=2, seed=0, progress=QUIET)
    used = {tuning.batches.images.digests[i].tobytes() for step in range(6) for i in tuning.batches.draw(step).chosen}
    splits = searcher.splits
    assert used <= {digest.tobytes() for digest in splits.train.digests}
    assert not used & {digest.tobytes() for part in (splits.held_out, splits._test) for digest in part.digests}
    assert tuning.schedule.steps == 6
    assert latest(tuning.folder) is None


def test_weights_that_were_imported(imported_copy: Path) -> None:
    """The recipe is that of the paper, in proportion to the batch."""
    searcher = Searcher(Run.open(imported_copy), "cpu", [Budget()])
    tuning = Finetuning(searcher, "name", Budget(), epochs=1, seed=0, progress=QUIET)
    course = tuning.course
    recipe, augment, rate, first_step = course.recipe, course.augment, course.rate, course.first_step
    assert (recipe.optimizer, recipe.batch_size, augment.crop_scale, first_step) == ("sgd", 16, (0.08, 1.0), 0)
    assert 0 < rate < 2.6 * 16 / 2048
