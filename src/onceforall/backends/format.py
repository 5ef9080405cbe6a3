"""The definition of a format: files of a network that a runtime can run."""

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
    """A network to write, see `ExportConfig.job`.

    Args:
        network: on the CPU, in eval mode.
        onnx: options for writing an ONNX graph.
        facts: texts to store inside a file if possible: the architecture and the config, as JSON.
        images: the preprocessing of images, as text.
        calibration: preprocessed training images (n, c, height, width), from which int8 takes the ranges of activations.
    """

    plan: Plan
    network: nn.Module
    onnx: OnnxOptions = OnnxOptions()  # noqa: RUF009, frozen
    facts: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    calibration: Tensor | None = None


@dataclass(frozen=True)
class Format:
    """A file format for exporting a network.

    Args:
        files: names of its files; the first one is the one to run.
        convert: makes their contents.
        runtime: opens the first file by its path.
        usage: Python code for the card, whose last statement computes `logits` (1, classes) from `x` (1, c, height, width), a
            float32 numpy array. The card's accuracies are measured with it; everything before the last statement runs once.
        takes: the file's input and metadata, for the card.
        batches: batch sizes that the proof tests.
        int8: whether logits only approximate the network's, so that accuracy may drop.
        load_for_many: like `load`, for thousands of images in large batches, if that can be faster; equal up to rounding.
        usage_of: for formats made from an ONNX graph: `usage` of a file with non-default options.
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
        """Write the files to a folder.

        Raises:
            MissingExtraError: a package is not installed.
            VerificationError: the network cannot be written.
            FileError: a file cannot be written.
        """
        if self.int8 and job.calibration is None:
            raise VerificationError(f"{self.files[0]}: int8 is calibrated on training images, and there are none: give some")
        try:
            with self.runtime.doing("convert the network"):
                contents = self.convert(job)
        except DeviceError as error:
            raise VerificationError(f"{self.files[0]}: {error}") from error
        for name, content in zip(self.files, contents, strict=True):
            write_bytes(folder / name, content)

    def load(self, folder: Path, threads: int) -> Run:
        """Load the files of a folder to run with `threads` threads. The returned function may raise VerificationError.

        Raises:
            MissingExtraError: the runtime's package is not installed.
            VerificationError: the files cannot be loaded.
        """
        import torch

        function = self._opened(folder, threads, None)

        def run(x: Tensor) -> Tensor:
            images = np.ascontiguousarray(x.numpy())
            parts = images[:, None] if self.batches == (1,) else [images]
            try:
                return torch.from_numpy(np.concatenate([function(part) for part in parts]))
            except Exception as error:  # runtimes raise their own classes
                what = f"{self.runtime.title} cannot run it on images of shape {tuple(x.shape)}"
                raise VerificationError(f"{folder / self.files[0]}: {what}: {one_line(error)}") from error

        return run

    def ready(self, folder: Path, threads: int, images: Images) -> Callable[[], object]:
        """Load the files of a folder as a function for timing, which computes the logits of these images (batch, c, height, width)
        with `threads` threads, with the settings of a profile. Raises the errors of `load`.
        """
        return self._opened(folder, threads, images.shape).bind(images)

    def _opened(self, folder: Path, threads: int, shape: tuple[int, ...] | None) -> Function:
        path = folder / self.files[0]
        try:
            return self.runtime.opened(path, threads=threads, shape=shape)
        except DeviceError as error:
            raise VerificationError(f"{path}: {error}") from error

    def usage_with(self, options: OnnxOptions | None) -> str:
        """The `usage` of files written with these options."""
        return self.usage if self.usage_of is None or options is None else self.usage_of(options)

    def takes_batch(self, size: int, options: OnnxOptions) -> bool:
        """Whether files written with these options accept `size` images per call."""
        if self.from_onnx and options.batch is not None:
            return size == options.batch
        return size in self.batches or max(self.batches) > 1

    @property
    def from_onnx(self) -> bool:
        """Whether it is made from an ONNX graph, so that a batch size and a softmax can be chosen."""
        return self.usage_of is not None

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX file."""
        return self.files[0].endswith(".onnx")

    def require(self) -> None:
        """Check that the packages are installed, see `Runtime.require`."""
        self.runtime.require()


def in_batches(run: Run, size: int | None) -> Run:
    """Run a file that takes exactly `size` images per call on any number of images, by filling the last batch with copies."""
    import torch

    if size is None:
        return run

    def run_all(x: Tensor) -> Tensor:
        copies = x[-1:].expand(-len(x) % size, *x.shape[1:])
        return torch.cat([run(part) for part in torch.split(torch.cat([x, copies]), size)])[: len(x)]

    return run_all
