"""What every runtime is, and what several of them use."""

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
from ..errors import CheckpointError, DeviceError, OnceForAllError
from ..ops import Shape
from ..plan import Plan
from .kept import Converted, Weights

if TYPE_CHECKING:  # runtimes are listed without torch, which takes seconds to load
    from torch import fx

FLOAT, INT8 = 1e-4, 0.1  # see `Runtime.tolerance`
Images = np.ndarray[Any, np.dtype[np.float32]]  # (batch, channels, height, width), C-contiguous


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a runtime computes on: its name, and the largest number of threads that compute one network."""

    name: str
    threads: int


def processor() -> Hardware:
    """This machine's processor, with as many threads as this process may use."""
    return Hardware(processor_name(), processors())


class Function(Protocol):
    """A network in a runtime."""

    def __call__(self, images: Images) -> Images:
        """Logits (batch, *plan.output_shape) of images (batch, *plan.input_shape), which stay valid after the next call."""

    def bind(self, images: Images) -> Callable[[], object]:
        """To be timed, until the next call or `bind`: computes the logits of these images.

        Images are copied to a device before, and logits are not copied back.
        """


class Open(Protocol):
    """Makes a function of what `Runtime.convert` gave, or of a file's path."""

    def __call__(self, model: Any, *, threads: int, shape: Shape | None) -> Function:
        """Ready for images (batch, …) of one shape; None: of any batch size, where the model takes that."""


@dataclass(frozen=True, eq=False)
class Runtime:
    """Turns a network into a function that computes it.

    What goes wrong in a package, inside `convert`, `quantise` and `open`, becomes a `DeviceError` of one line.

    Args:
        name: in `RUNTIMES`.
        package: distribution that brings the runtime, whose version is reported.
        open: makes a function of a converted network. It leaves no setting of the process changed.
        convert: makes what `open` takes, of a plan, weights, threads, and the shape of the images with the batch.
        from_onnx: makes what `open` takes of an ONNX file's content, where the runtime has no `convert`.
        quantise: int8 instead: makes what `open` takes of an ONNX file's content, images to calibrate with, and their number in a
            call, None for any.
        calibration: images (n, *plan.input_shape) to quantise with; by default noise, which serves for latency.
        opset: of ONNX files that suits it best.
        keeps: where converting takes seconds, the settings that the model, which is bytes then, depends on: it is kept for the next
            load.
        needs: packages that are looked for; they are imported by `load`, not before.
        extra: of onceforall that brings them.
        find: what it computes on here, or an error that says what is missing beside packages. Cheap.
        gpu: computes on a GPU: one thread launches the work, and what is timed in between runs there too.
        in_threads: several are loaded at once, since other threads can run for most of the time that loading takes.
        there: functions that other machines load an ONNX file with, over ssh; the last is called as `open`, with a path, and gives
            `OnHost.run` and `timed`. They need the package only, and of what the module imports `importlib`, `Any`, `Callable` and
            `Sequence`.
        tolerance: largest difference from PyTorch's logits: root mean square over many images, as a fraction of the logits' spread
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
        """What it would compute on here. Cheap: looks for the packages but does not import them.

        Raises:
            MissingExtraError: a package is not installed.
            DeviceError: something else is missing, such as a GPU or a compiler.
        """
        self.require()
        return self.find()

    def require(self) -> None:
        """Look for the packages, without importing them.

        Raises:
            MissingExtraError: names the first that is not installed, and the extra that brings it.
        """
        for package in self.needs:
            require(package, self.extra)

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> Function:
        """The network in eval mode, ready to be timed: images (batch, *plan.input_shape) -> (batch, *plan.output_shape).

        The function computes with `threads` threads and leaves no setting of the process changed. The weights are those of the
        network's state dict; they are not written to, and its statistics are finite.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot use this many threads, cannot run the network, or lacks something here.
            CheckpointError: the weights are not those of a network of the plan.
        """
        if self.gpu and threads != 1:
            raise DeviceError(f"threads is {threads}, and one thread launches work on a GPU: ask for threads=1")
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
        """What `open` takes, of an ONNX file's content; quantised with these images if the runtime is of int8."""
        with self.doing("read the model" if self.quantise is None else "quantise the model"):
            if self.quantise is not None:
                assert calibration is not None
                return self.quantise(content, calibration, batch)
            assert self.from_onnx is not None
            return self.from_onnx(content)

    def load_onnx(self, content: bytes, *, threads: int, shape: Shape) -> Function:
        """An ONNX file's network, ready to be timed.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot load it.
        """
        return self.opened(self.model_of(content), threads=threads, shape=shape)

    def opened(self, model: Any, *, threads: int, shape: Shape | None) -> Function:
        """A converted network, or a file's path, as a function for images (batch, …) of one shape; None: of any batch size.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot load it.
        """
        with self.doing("load the model"):
            return self.open(model, threads=threads, shape=shape)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Inside, packages are quiet, and what they raise becomes one line.

        Raises:
            DeviceError: what could not be done.
        """
        try:
            with quiet_packages():
                yield
        except OnceForAllError:
            raise
        except Exception as error:  # packages raise classes of their own, without a common one
            raise DeviceError(f"{self.title} cannot {what}: {one_line(error)}") from error


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class OnHost:
    """A `Function` that reads the arrays where they are.

    Args:
        timed: the same without copying the logits out of the runtime's memory, where that saves something.
    """

    run: Callable[[Images], Images]
    timed: Callable[[Images], object] | None = None

    def __call__(self, images: Images) -> Images:
        return self.run(images)

    def bind(self, images: Images) -> Callable[[], object]:
        return partial(self.timed or self.run, images)


def noise(shape: Shape, images: int = 8) -> Images:
    """Standard normal images (images, *shape), to quantise with where only time matters, which does not depend on values."""
    return np.random.default_rng(0).standard_normal((images, *shape), np.float32)


def calls_of(images: Images, batch: int | None) -> list[Images]:
    """The images of each call; the last one again where they are too few, which changes no range."""
    size = batch or 1
    whole = np.concatenate([images, images[-1:].repeat(-len(images) % size, 0)])
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def int8_saturates() -> bool:
    """Whether int8 products are summed in 16 bits here, so that weights should have 7 bits."""
    info = Path("/proc/cpuinfo")
    return platform.machine().lower() in ("x86_64", "amd64") and not (info.exists() and "vnni" in info.read_text(errors="replace"))


def own_network(plan: Plan, weights: Weights) -> fx.GraphModule:
    """The plan's network as a torch module on a copy of the weights: in eval mode, channels-last, without gradients.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the plan says.
    """
    import torch

    from ..nn.shared import network_on, own_shapes

    wanted, statistics = own_shapes(plan)
    own = {}
    for name, shape in (wanted | statistics).items():
        if name not in weights:
            raise CheckpointError(f"{name} is missing in the network: it was not built from this plan")
        if tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape)
            raise CheckpointError(f"{name} has shape {found}, the plan needs {shape}: it was not built from this plan")
        own[name] = weights[name].detach().cpu().clone()
    return network_on(plan, own, {}).to(memory_format=torch.channels_last)
