"""`Specialised`: a network to take home, as specialised/NAME.json of the run directory holds it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...arch import Arch
from ...calibrate import Accuracy
from ...common.records import read_record
from ...export import FileRow, ReaderResult
from ...latency import Timing
from ...options.shared import Budget
from ...scores import Confusion
from ...tasks.label_scores import LabelScores
from ..run_directory.run import Run
from .finetune import Finetuned
from .mistakes import Mistake


@dataclass(frozen=True)
class Specialised:
    """A network to take home: where it lies, how it was chosen, and what was measured through the exported file.

    Args:
        folder: with its files.
        device: that it was chosen for.
        budget: that was asked for.
        predicted_ms: None without a profile.
        predicted_top1: None if nothing predicted it.
        test: on the test images.
        latency: on the device.
        held_out_top1: on `held_out_images` held-out images, fine-tuned if it was.
        held_out_score: the same by the run's metric.
        shares: of the latency, by segment.
        files: a row for each format.
        left_out: formats that are not in the folder, because int8 loses too much, and why in one line.
        confusion: which classes of the test images it takes for which.
        mistakes: test images that it takes for something else.
        wrong: all of these, as `mistakes.as_bits`; "" in files of before, and where an image may have several labels.
        labels: what it says of the test images, where an image may have several labels.
        proofs: by format, as JSON values once they were written.
        readers: of the ONNX files in other programs.
        finetuned: what fine-tuning did.
        metric: that it was chosen by; None for the run's.
        tests: test accuracies by format.
        pushed: address on the Hugging Face Hub.
    """

    folder: Path
    arch: Arch
    device: str
    budget: Budget
    predicted_ms: float | None
    predicted_top1: float | None
    test: Accuracy
    latency: Timing
    held_out_top1: float | None = None
    held_out_score: float | None = None
    held_out_images: int | None = None
    shares: dict[str, float] = field(default_factory=dict)
    files: tuple[FileRow, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    confusion: Confusion | None = None
    mistakes: tuple[Mistake, ...] = ()
    wrong: str = ""
    labels: LabelScores | None = None
    proofs: dict[str, Any] = field(default_factory=dict)
    readers: tuple[ReaderResult, ...] = ()
    finetuned: Finetuned | None = None
    metric: str | None = None
    tests: dict[str, Accuracy] = field(default_factory=dict)
    pushed: str | None = None


def specialised_in(run: Run) -> dict[str, Specialised]:
    """The networks in specialised/, by name.

    Raises:
        FileError: a file is damaged, edited or written by another version.
    """
    return {path.stem: read_record(path, Specialised) for path in sorted((run.folder / "specialised").glob("*.json"))}
