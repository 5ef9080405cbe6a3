"""`Specialised`: an exported network, as recorded in specialised/NAME.json of the run directory."""

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
    """An exported network: its folder, how it was chosen, and what was measured through the exported files.

    Args:
        folder: the folder with its files.
        device: the device it was chosen for.
        budget: the requested limits.
        predicted_ms: predicted latency; None without a profile.
        predicted_top1: predicted accuracy; None if it was not predicted.
        test: accuracy on the test images.
        latency: latency on the device.
        held_out_top1: top-1 on `held_out_images` held-out images, after fine-tuning if there was any.
        held_out_score: the run's metric on the same images.
        shares: shares of the latency by segment.
        files: a row for each format.
        left_out: formats that are left out because int8 loses too much, with one line on why.
        confusion: confusion matrix on the test images.
        mistakes: the most confident mistakes on the test images.
        wrong: all misclassified test images, as `mistakes.as_bits`; "" in older files and for multi-label networks.
        labels: multi-label only: scores of the labels on the test images.
        proofs: proofs by format, as JSON values.
        readers: results of other programs that read the ONNX files.
        finetuned: the result of fine-tuning.
        metric: the metric it was chosen by; None for the run's.
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

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95 % interval of the test score by this metric; None if an older file lacks the results it is computed from."""
        return self.labels.interval if self.labels else self.confusion.interval(metric) if self.confusion else None


def specialised_in(run: Run) -> dict[str, Specialised]:
    """The networks in specialised/, by name.

    Raises:
        FileError: a file is damaged, edited or written by another version.
    """
    return {path.stem: read_record(path, Specialised) for path in sorted((run.folder / "specialised").glob("*.json"))}
