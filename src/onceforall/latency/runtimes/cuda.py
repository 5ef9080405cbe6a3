"""PyTorch on an NVIDIA GPU, float32 (no TF32), captured as a CUDA graph, so that a call costs one launch.

The timed call ends when the GPU is done. Images and logits are copied outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, Images, Weights, one_line, own_network

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Cuda", "GpuReference", "OnGpu", "gpu"]

WARM_UP = 3  # calls before the capture, in which cuDNN chooses its algorithms


@dataclass(frozen=True, slots=True, eq=False)
class OnGpu:
    """A `Function` of a network that reads one tensor of the GPU and writes another.

    Args:
        source: images, read by `launch`.
        result: logits, written by `launch`.
        launch: starts the computation and need not wait for it.
    """

    source: Tensor
    result: Tensor
    launch: Callable[[], object]

    def __call__(self, images: Images) -> Images:
        self.bind(images)()
        logits: Images = self.result.cpu().numpy()
        return logits

    def bind(self, images: Images) -> Callable[[], object]:
        import torch

        self.source.copy_(torch.from_numpy(images))

        def run() -> None:
            self.launch()
            torch.cuda.synchronize()

        return run


class GpuReference:
    """The reference kernel of `latency.measure` for networks on a GPU, whose clock has nothing to do with the processor's: a matrix
    product, and a sum over 256 MB, beyond the second cache.

    Args:
        device: of torch.
    """

    def __init__(self, device: str = "cuda") -> None:
        import torch

        self._a = torch.full((512, 512), 1 / 512, device=device)
        self._b = self._a.clone()
        self._big = torch.ones(1 << 26, device=device)

    def __call__(self) -> None:
        import torch

        torch.mm(self._a, self._a, out=self._b)
        self._big.sum()
        if self._big.is_cuda:
            torch.cuda.synchronize()


class Cuda:
    """Channels-last, batch norms not folded; one thread launches."""

    package = "torch"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        return gpu("PyTorch on CUDA")

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnGpu:
        import torch

        if threads != 1:
            raise DeviceError(f"threads is {threads}, and one thread launches work on a GPU: ask for threads=1")
        self.hardware()
        try:
            with torch.no_grad(), torch.backends.cudnn.flags(benchmark=True, deterministic=False, allow_tf32=False):
                own = own_network(plan, weights).to("cuda")
                source = torch.zeros(batch, *plan.input_shape, device="cuda").contiguous(memory_format=torch.channels_last)
                side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(WARM_UP):
                        own(source)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    result = own(source)
        except Exception as error:  # torch's errors have no common class of their own
            raise DeviceError(f"CUDA cannot run the network: {one_line(error)}") from error
        if tuple(result.shape) != (wanted := (batch, *plan.output_shape)):
            raise DeviceError(f"CUDA: the network gives {tuple(result.shape)}, its plan {wanted}: build the network from this plan")
        return OnGpu(source, result, graph.replay)


def gpu(name: str) -> Hardware:
    """The GPU that torch uses.

    Raises:
        DeviceError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(f"{name} needs an NVIDIA GPU with its driver, and torch {torch.__version__} finds none")
    return Hardware(torch.cuda.get_device_name(), 1)
