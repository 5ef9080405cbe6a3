"""`ofa export-original`: a run's weights as a checkpoint for the Once-for-All authors' code."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError
from ..published import save_original
from .evaluate import calibrated
from .run_directory.run import Run


@dataclass(frozen=True)
class ExportedOriginal:
    """The file, and the number of training images used to measure BatchNorm statistics; None if the weights had them."""

    path: Path
    images: int | None


def export_original(folder: Path, *, out: Path | None = None, data: str | None = None) -> ExportedOriginal:
    """Write a checkpoint that the original's code loads.

    A supernet trained here has no running statistics, so the largest network's are measured on training images. They are right
    for that network only: sub-networks must be recalibrated, as with the original's checkpoints.

    Args:
        out: the file; None for original.pth in the run directory. An existing file is not overwritten.
        data: where the images are now, if they have moved; None for the place in run.json.
    """
    run = Run.open(folder, data)
    path = Path(out) if out is not None else run.folder / "original.pth"
    if path.exists():
        raise FileError(f"{path}: already there, and not overwritten: choose another --out, or remove it")
    supernet = run.supernet()
    trained_here = any(norm.running_mean.isnan().any() for norm in supernet.norms())
    if run.moved and not trained_here:
        run.splits()  # not needed here, but a new location is checked and saved
    images = None
    if trained_here:
        largest = calibrated(run, supernet, run.space.largest(), run.splits())
        measured = {name: value for name, value in largest.network.named_buffers() if "running_" in name}
        supernet.load_state_dict(supernet.state_dict() | measured)
        images = largest.images
    save_original(supernet, path)
    return ExportedOriginal(path, images)
