"""The newest weights of a run: the final ones, or those of a checkpoint while training has not finished."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CheckpointError, FileError
from ...train.checkpoint import digest_of, load_tensors
from .metrics import Metrics
from .run import Run

if TYPE_CHECKING:
    from ...supernets.supernet import Supernet

TRIES = 3


@dataclass(frozen=True)
class TrainedWeights:
    """Weights of a run.

    Args:
        path: the file; a checkpoint is deleted once there are two newer ones.
        digest: the file's checksum.
        step: the training step.
        final: whether they are the run's final weights.
    """

    path: Path
    digest: str
    step: int
    final: bool

    def supernet(self, run: Run) -> Supernet:
        """The supernet with these weights in eval mode, as in validations during training.

        Raises:
            FileError: the checkpoint is gone, because there are newer ones.
            CheckpointError: the file is damaged or does not fit.
        """
        from ...supernets.supernet import Supernet
        from ...train.state import load_weights, part_of

        if self.final:
            return run.supernet()
        tensors, _ = load_tensors(self.path)
        supernet = Supernet(run.space, run.num_classes)
        load_weights(supernet, {**part_of(tensors, "model."), **part_of(tensors, "ema.")})
        return supernet.eval()


def newest_weights(run: Run) -> TrainedWeights | None:
    """The run's final weights, else those of the newest intact checkpoint; None if nothing is trained yet."""
    if run.finished:
        return TrainedWeights(run.folder / "supernet.safetensors", run.weights_hash(), Metrics.of(run.folder).kept, final=True)
    for path in sorted((run.folder / "checkpoints").glob("step-*.safetensors"), reverse=True):
        step = path.stem.removeprefix("step-")
        if step.isdecimal() and int(step):
            with suppress(CheckpointError, FileError):  # torn, or just removed
                return TrainedWeights(path, digest_of(path), int(step), final=False)
    return None


def open_newest(run: Run) -> tuple[TrainedWeights, Supernet]:
    """The newest weights and the supernet with them. If training deletes the checkpoint meanwhile, the next one is read.

    Raises:
        FileError: there are none yet.
        CheckpointError: see `TrainedWeights.supernet`.
    """
    for left in reversed(range(TRIES)):
        if (weights := newest_weights(run)) is None:
            break
        try:
            return weights, weights.supernet(run)
        except FileError:
            if not left:
                raise
    raise FileError(f"{run.folder}: no weights yet: the first checkpoint comes with the first validation")
