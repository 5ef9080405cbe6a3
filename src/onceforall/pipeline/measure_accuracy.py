"""`ofa measure-accuracy`: accuracy of many sub-networks on held-out images, each shared prefix computed once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..accuracy import AccuracyRow
from ..arch import Arch

__all__ = ["measure_accuracy"]


def measure_accuracy(
    folder: Path,
    *,
    subnets: int = 300,
    archs: Sequence[Arch] | None = None,
    every: int | None = None,
    seed: int = 0,
    device: str = "auto",
    ray: str | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[AccuracyRow]:
    """Measure sub-networks of a trained run on held-out images; test images are not touched. Those measured before are not again.

    Started by torchrun, the processes share out the work; each returns all rows.

    Args:
        folder: the run directory; accuracy/ gets the rows as Parquet.
        subnets: to draw, by `onceforall.accuracy.tree`.
        archs: measure these instead.
        every: measure only at resolutions that are so many pixels apart; rows between them are interpolated and marked so.
        seed: of the sub-networks drawn.
        device: to run them on, see `choose_compute`.
        ray: address of a Ray cluster that shares out the work, or "local" for one on this machine.
        on_progress: called with sub-networks measured, sub-networks needed and a note.

    Returns:
        The rows of the sub-networks asked for, in their order; then those interpolated.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    raise NotImplementedError
