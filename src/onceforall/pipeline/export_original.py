"""`ofa export-original`: a run's weights under the names that the Once-for-All authors' code uses."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError
from ..published import save_original
from ..supernets.supernet import Supernet
from .evaluate import calibrated
from .run_directory.run import Run


@dataclass(frozen=True)
class ExportedOriginal:
    """The file, and the number of training images on which BatchNorm statistics were measured, None if they were there."""

    path: Path
    images: int | None


def export_original(folder: Path, *, out: Path | None = None, data: str | None = None) -> ExportedOriginal:
    """Write a checkpoint that the original's code loads.

    A supernet that was trained here has no running statistics; then those of the largest network are measured on the training
    images. They are right for that network only, as in the original, whose users recalibrate sub-networks too.

    Args:
        out: the file, None for original.pth in the run directory; one that is there is not overwritten.
        data: where the images are now, if they have moved since; None for where the run says.
    """
    run = Run.open(folder, data)
    path = Path(out) if out is not None else run.folder / "original.pth"
    if path.exists():
        raise FileError(f"{path}: already there, and not overwritten: choose another --out, or remove it")
    supernet = run.supernet()
    trained_here = any(norm.running_mean.isnan().any() for norm in supernet.norms())
    if run.moved and not trained_here:
        run.splits()  # nothing needs them, but a new place that was given is checked and kept
    images = _measure_statistics(run, supernet) if trained_here else None
    save_original(supernet, path)
    return ExportedOriginal(path, images)


def _measure_statistics(run: Run, supernet: Supernet) -> int:
    """Give the supernet the statistics of its largest network; returns the number of images."""
    ready = calibrated(run, supernet, run.space.largest(), run.splits())
    measured = {name: value for name, value in ready.network.named_buffers() if "running_" in name}
    supernet.load_state_dict(supernet.state_dict() | measured)
    return ready.images
