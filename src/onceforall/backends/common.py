"""The definition of a runtime, and helpers shared by several runtimes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..common.onnx_options import OPSET
from ..common.packages import one_line, quiet_packages, require
from ..common.processors import processor_name, processors
from ..errors import DeviceError, OnceForAllError
from ..ops import Shape
from ..plan import Plan
from .kept import Converted, Weights

if TYPE_CHECKING:  # runtimes are listed without importing torch, which takes seconds
    from torch import fx

FLOAT, INT8 = 1e-4, 0.1  # see `Runtime.tolerance`
Images = np.ndarray[Any, np.dtype[np.float32]]  # (batch, channels, height, width), C-contiguous


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware that a runtime uses: its name and the maximum number of threads per network."""

    name: str
    threads: int


def processor() -> Hardware:
    """This machine's processor, with as many threads as this process may use."""
    return Hardware(processor_name(), processors())


class Function(Protocol):
    """A network loaded in a runtime."""

    def __call__(self, images: Images) -> Images:
        """Logits (batch, *plan.output_shape) of images (batch, *plan.input_shape); later calls do not overwrite them."""

    def bind(self, images: Images) -> Callable[[], object]:
        """A function for timing that computes the logits of these images, valid until the next call or `bind`.

        Images are copied to the device in advance, and logits are not copied back.
        """


class Open(Protocol):
    """Makes a function from the result of `Runtime.convert` or the path of a file."""

    def __call__(self, model: Any, *, threads: int, shape: Shape | None) -> Function:
        """Load for images (batch, …) of one shape, or with None for any batch size, if the model supports it."""


@dataclass(frozen=True, eq=False)
class Runtime:
    """Turns a network into a function that computes it.

    Errors of a package inside `convert`, `quantise` and `open` become a `DeviceError` with one line.

    Args:
        name: name in `RUNTIMES`.
        package: distribution of the runtime, whose version is reported.
        open: makes a function from a converted network, without changing the settings of the process.
        convert: makes the argument of `open` from a plan, weights, threads, and the images' shape including the batch.
        from_onnx: makes the argument of `open` from an ONNX file's content, if the runtime has no `convert`.
        quantise: replaces `from_onnx` for int8: makes the argument of `open` from an ONNX file's content, calibration images, and
            the batch size of a call (None for any).
        calibration: images (n, *plan.input_shape) to quantize with; by default noise, which suffices for latency.
        opset: the best opset for ONNX files.
        keeps: if conversion takes seconds, the settings that the converted model (bytes) depends on, which is cached for the next
            load.
        needs: required packages, which only `load` imports.
        extra: the extra of onceforall that installs them.
        find: returns the hardware of this machine, or raises an error if it lacks something other than packages. Cheap.
        gpu: whether it computes on a GPU: one thread launches the work, and the reference kernel also runs there.
        in_threads: whether to load several networks at once, since loading lets other threads run most of the time.
        there: functions that load an ONNX file on another machine over ssh; the last one is called like `open`, with a path, and
            returns `OnHost.run` and `timed`. They may only use the package and, of their module's imports, `importlib`, `Any`,
            `Callable` and `Sequence`.
        tolerance: maximum difference from PyTorch's logits: root mean square over many images, as a fraction of the logits' spread
            (root mean square distance from each class's mean). Tested with a network trained for a few seconds.
    """

    name: str
    title: str
    package: str
    open: Open
    convert: Callable[[Plan, Weights, int, Shape], Any] | None = None
    from_onnx: Callable[[bytes], Any] | None = None
    quantise: Callable[[bytes, Images, int | None], Any] | None = None
    calibration: Images | None = None
    opset: int = OPSET
    keeps: Sequence[Literal["threads", "batch"]] | None = None
    needs: tuple[str, ...] = ()
    extra: str = ""
    find: Callable[[], Hardware] = processor
    gpu: bool = False
    in_threads: bool = False
    there: tuple[Callable[..., Any], ...] = ()
    tolerance: float = FLOAT
    _kept: Converted = field(default_factory=Converted, init=False, repr=False)

    def hardware(self) -> Hardware:
        """The hardware that it would use here. Cheap: checks that packages are installed without importing them.

        Raises:
            MissingExtraError: a package is not installed.
            DeviceError: something else is missing, such as a GPU or a compiler.
        """
        self.require()
        return self.find()

    def require(self) -> None:
        """Check that the packages are installed, without importing them.

        Raises:
            MissingExtraError: names the first missing package and the extra that installs it.
        """
        for package in self.needs:
            require(package, self.extra)

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> Function:
        """Load the network in eval mode for timing: images (batch, *plan.input_shape) -> (batch, *plan.output_shape).

        The function computes with `threads` threads and does not change the settings of the process. The weights are the network's
        state dict, with finite statistics; they are not modified.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot use this many threads, cannot run the network, or this machine lacks something.
            CheckpointError: the weights do not fit the plan's network.
        """
        if self.gpu and threads != 1:
            raise DeviceError(f"threads is {threads}, but one thread launches all work on a GPU: give threads=1")
        self.hardware()
        from ..nn.onnx import to_onnx

        shape, settings = (batch, *plan.input_shape), {"threads": threads, "batch": batch}

        def made() -> Any:
            with self.doing("convert the network"):
                if self.convert is not None:
                    return self.convert(plan, weights, threads, shape)
                content = to_onnx(plan, weights, opset=self.opset)
                return self.model_of(content, noise(plan.input_shape) if self.calibration is None else self.calibration)

        if self.keeps is None:
            return self.opened(made(), threads=threads, shape=shape)
        model = self._kept.get(plan, weights, tuple(settings[key] for key in self.keeps), made)
        return self.opened(model, threads=threads, shape=shape)

    def model_of(self, content: bytes, calibration: Images | None = None, batch: int | None = None) -> Any:
        """The argument of `open` from an ONNX file's content, quantized with these images for int8 runtimes."""
        with self.doing("read the model" if self.quantise is None else "quantize the model"):
            if self.quantise is not None:
                assert calibration is not None
                return self.quantise(content, calibration, batch)
            assert self.from_onnx is not None
            return self.from_onnx(content)

    def load_onnx(self, content: bytes, *, threads: int, shape: Shape) -> Function:
        """Load an ONNX file's network for timing.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot load it.
        """
        return self.opened(self.model_of(content), threads=threads, shape=shape)

    def opened(self, model: Any, *, threads: int, shape: Shape | None) -> Function:
        """Load a converted network or a file for images (batch, …) of one shape, or with None for any batch size.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot load it.
        """
        with self.doing("load the model"):
            return self.open(model, threads=threads, shape=shape)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Context in which packages are silent and their errors are reported in one line.

        Raises:
            DeviceError: names what failed.
        """
        try:
            with quiet_packages():
                yield
        except OnceForAllError:
            raise
        except Exception as error:  # packages raise their own classes, without a common base
            raise DeviceError(f"{self.title} cannot {what}: {one_line(error)}") from error


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class OnHost:
    """A `Function` that reads arrays in host memory.

    Args:
        timed: like `run`, but without copying the logits out of the runtime's memory, if that saves time.
    """

    run: Callable[[Images], Images]
    timed: Callable[[Images], object] | None = None

    def __call__(self, images: Images) -> Images:
        return self.run(images)

    def bind(self, images: Images) -> Callable[[], object]:
        return partial(self.timed or self.run, images)


def noise(shape: Shape, images: int = 8) -> Images:
    """Standard normal images (images, *shape), to quantize with if only latency matters, which does not depend on values."""
    return np.random.default_rng(0).standard_normal((images, *shape), np.float32)


def calls_of(images: Images, batch: int | None) -> list[Images]:
    """Split images into calls; the last image is repeated to fill the last call, which changes no range."""
    size = batch or 1
    whole = np.concatenate([images, images[-1:].repeat(-len(images) % size, 0)])
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def int8_saturates() -> bool:
    """Whether this machine sums int8 products in 16 bits, so that weights should have 7 bits."""
    info = Path("/proc/cpuinfo")
    return platform.machine().lower() in ("x86_64", "amd64") and not (info.exists() and "vnni" in info.read_text(errors="replace"))


def own_network(plan: Plan, weights: Weights) -> fx.GraphModule:
    """The plan's network as a torch module on a copy of the weights, in eval mode, channels-last, without gradients.

    Raises:
        CheckpointError: a tensor is missing or does not have the plan's shape.
    """
    import torch

    from ..nn.calls import state_tensor
    from ..nn.shared import network_on, own_shapes

    trained, statistics = own_shapes(plan)
    own = {name: state_tensor(weights, name, shape).clone() for name, shape in (trained | statistics).items()}
    return network_on(plan, own, {}).to(memory_format=torch.channels_last)
