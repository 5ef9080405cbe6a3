"""What a format is: files of a network that a runtime runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.files import write_bytes
from ..common.onnx_options import OnnxOptions
from ..common.packages import one_line
from ..errors import DeviceError, VerificationError
from ..plan import Plan
from .common import Function, Images, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

Run = Callable[["Tensor"], "Tensor"]  # images (n, c, height, width) float32 → logits (n, classes)


@dataclass(frozen=True)
class Job:
    """What is to be written, see `ExportConfig.job`.

    Args:
        network: on the CPU, in eval mode.
        onnx: how an ONNX graph is written.
        facts: texts to keep inside a file, where it can hold some: the architecture and the config, as JSON.
        images: in words, how images are prepared.
        calibration: preprocessed training images (n, c, height, width), which int8 takes the ranges of activations from.
    """

    plan: Plan
    network: nn.Module
    onnx: OnnxOptions = OnnxOptions()  # noqa: RUF009, frozen
    facts: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    calibration: Tensor | None = None


@dataclass(frozen=True)
class Format:
    """One way to take a network home.

    Args:
        files: names of what it writes; the first is the one that is run.
        convert: makes their contents.
        runtime: opens the first file by its path.
        usage: Python for the card, which makes `logits` (1, classes) of `x` (1, c, height, width), a float32 numpy array,
            in its last statement; the card's accuracies are measured by it, and what is before that statement runs once.
        takes: where the images go in and what the file itself says about them, for the card.
        batches: batch sizes that the proof tries.
        int8: logits are only near the network's, and accuracy may drop.
        load_for_many: as `load`, for thousands of images in large batches, where that can be faster; as exact but for rounding.
        usage_of: of formats that are made from an ONNX graph: `usage` of a file with other options than the default.
    """

    files: tuple[str, ...]
    convert: Callable[[Job], Sequence[bytes]]
    runtime: Runtime
    usage: str
    takes: str
    batches: tuple[int, ...] = (1, 7, 64)
    int8: bool = False
    load_for_many: Callable[[Path, int], Run] | None = None
    usage_of: Callable[[OnnxOptions], str] | None = None

    def write(self, folder: Path, job: Job) -> None:
        """Make the files in a folder.

        Raises:
            MissingExtraError: a package is absent.
            VerificationError: the network cannot be written.
            FileError: a file cannot be written.
        """
        if self.int8 and job.calibration is None:
            raise VerificationError(f"{self.files[0]}: int8 needs training images to calibrate with: give some")
        try:
            with self.runtime.doing("convert the network"):
                contents = self.convert(job)
        except DeviceError as error:
            raise VerificationError(f"{self.files[0]}: {error}") from error
        for name, content in zip(self.files, contents, strict=True):
            write_bytes(folder / name, content)

    def load(self, folder: Path, threads: int) -> Run:
        """The files of a folder, ready to run with `threads` threads. What it returns raises VerificationError.

        Raises:
            MissingExtraError: the runtime's package is absent.
            VerificationError: the files cannot be loaded.
        """
        import torch

        function = self._opened(folder, threads, None)

        def run(x: Tensor) -> Tensor:
            images = np.ascontiguousarray(x.numpy())
            parts = images[:, None] if self.batches == (1,) else [images]
            try:
                return torch.from_numpy(np.concatenate([function(part) for part in parts]))
            except Exception as error:  # runtimes raise classes of their own
                what = f"{self.runtime.title} cannot run it on images of shape {tuple(x.shape)}"
                raise VerificationError(f"{folder / self.files[0]}: {what}: {one_line(error)}") from error

        return run

    def ready(self, folder: Path, threads: int, images: Images) -> Callable[[], object]:
        """The files of a folder as a function to be timed, which computes these images (batch, c, height, width), in the
        runtime as a profile uses it, with `threads` threads and this one batch size. Raises as `load`.
        """
        return self._opened(folder, threads, images.shape).bind(images)

    def _opened(self, folder: Path, threads: int, shape: tuple[int, ...] | None) -> Function:
        path = folder / self.files[0]
        try:
            return self.runtime.opened(path, threads=threads, shape=shape)
        except DeviceError as error:
            raise VerificationError(f"{path}: {error}") from error

    def usage_with(self, options: OnnxOptions | None) -> str:
        """The `usage` of files that were written with these options."""
        return self.usage if self.usage_of is None or options is None else self.usage_of(options)

    def takes_batch(self, size: int, options: OnnxOptions) -> bool:
        """Whether files written with these options take `size` images a call."""
        if self.from_onnx and options.batch is not None:
            return size == options.batch
        return size in self.batches or max(self.batches) > 1

    @property
    def from_onnx(self) -> bool:
        """Whether it is made from an ONNX graph, so that a batch size and a softmax can be asked for."""
        return self.usage_of is not None

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX file."""
        return self.files[0].endswith(".onnx")

    def require(self) -> None:
        """Look for the packages, see `Runtime.require`."""
        self.runtime.require()


def in_batches(run: Run, size: int | None) -> Run:
    """A file that takes exactly `size` images a call, for any number of them; what is left over is filled up with copies."""
    import torch

    if size is None:
        return run

    def run_all(x: Tensor) -> Tensor:
        lacking = -len(x) % size
        return torch.cat([run(part) for part in torch.split(torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]), size)])[: len(x)]

    return run_all
