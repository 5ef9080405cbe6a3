"""What a format is."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...arch import Arch
from ...packages import require
from ...plan import Plan
from ..config import ExportConfig, OnnxOptions

__all__ = ["Format", "Images", "Job", "Run", "in_batches"]

Run = Callable[[Tensor], Tensor]  # images (n, 3, resolution, resolution) float32 → logits (n, classes)
Images = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Job:
    """What is to be written.

    `network` is on the CPU in eval mode. `calibration` are preprocessed training images (n, 3, resolution, resolution), which int8
    formats take the ranges of activations from.
    """

    arch: Arch
    plan: Plan
    network: nn.Module
    config: ExportConfig
    calibration: Tensor | None = None

    @property
    def onnx(self) -> OnnxOptions:
        """For formats that are made from an ONNX graph."""
        return self.config.onnx or OnnxOptions()

    @property
    def facts(self) -> dict[str, str]:
        """The architecture and the config (classes, preprocessing) as JSON, for formats that keep texts inside a file."""
        return {"arch": self.arch.to_json(), "config": json.dumps(self.config.to_json(), ensure_ascii=False)}


@dataclass(frozen=True)
class Format:
    """One way to take a network home.

    Args:
        files: names of what it writes; the first is the one that is run.
        write: makes the files in a folder. Raises MissingExtraError when a package is absent, VerificationError when the network
            cannot be written.
        load: the files of a folder, ready to run with so many threads. Raises as `write`; what it returns raises VerificationError.
        load_for_many: as `load`, for thousands of images in large batches, where that can be faster; as exact but for rounding.
        load_to_time: see `ready`, where `load` would do more than a profile of the same runtime times.
        runtime: key of `onceforall.latency.runtimes.RUNTIMES`, whose networks run as this file does.
        usage: Python for the card, which makes `logits` (1, classes) of `x` (1, 3, resolution, resolution), a float32 numpy array,
            in its last statement; the card's accuracies are measured by it, and what is before that statement runs once.
        takes: where the images go in and what the file itself says about them, for the card.
        batches: batch sizes that the proof tries.
        int8: logits are only near the network's, and accuracy may drop.
        needs: packages that are not always installed.
        extra: of onceforall that brings them.
        usage_of: of formats that are made from an ONNX graph: `usage` of a file with other options than the default.
    """

    files: tuple[str, ...]
    write: Callable[[Path, Job], None]
    load: Callable[[Path, int], Run]
    usage: str
    takes: str
    batches: tuple[int, ...] = (1, 7, 64)
    int8: bool = False
    needs: tuple[str, ...] = ()
    extra: str = ""
    load_for_many: Callable[[Path, int], Run] | None = None
    load_to_time: Callable[[Path, int, Images], Callable[[], object]] | None = None
    runtime: str | None = None
    usage_of: Callable[[OnnxOptions], str] | None = None

    def ready(self, folder: Path, threads: int, images: Images) -> Callable[[], object]:
        """The files of a folder as a function to be timed, which computes these images (batch, 3, resolution, resolution).

        The settings of the runtime are those of `backends`, as in a profile, with so many threads and this one batch size.

        Raises:
            MissingExtraError: as `load`, as the next one.
            VerificationError: the files cannot be loaded.
        """
        if self.load_to_time is not None:
            return self.load_to_time(folder, threads, images)
        return partial(self.load(folder, threads), torch.from_numpy(images))

    def usage_with(self, options: OnnxOptions | None) -> str:
        """The `usage` of files that were written with these options."""
        return self.usage if self.usage_of is None or options is None else self.usage_of(options)

    def takes_batch(self, size: int, options: OnnxOptions) -> bool:
        """Whether files that were written with these options take so many images a call."""
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
        """Look for the packages, without importing them.

        Raises:
            MissingExtraError: names the first that is not installed, and the extra that brings it.
        """
        for package in self.needs:
            require(package, self.extra)


def in_batches(run: Run, size: int | None) -> Run:
    """A file that takes exactly `size` images a call, for any number of them; what is left over is filled up with copies."""
    if size is None:
        return run

    def run_all(x: Tensor) -> Tensor:
        lacking = -len(x) % size
        return torch.cat([run(part) for part in torch.split(torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]), size)])[: len(x)]

    return run_all
