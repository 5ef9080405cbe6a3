"""PyTorch on an NVIDIA GPU, float32 (no TF32), captured as a CUDA graph, so that a call takes a single launch.

A timed call ends when the GPU has finished. Copies of images and logits are not timed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import DeviceError
from ..ops import Shape
from .common import Hardware, Images, Runtime, own_network

WARM_UP = 3  # calls before the capture, during which cuDNN selects its algorithms


@dataclass(frozen=True, slots=True, eq=False)
class OnGpu:
    """A `Function` of a network that reads one GPU tensor and writes another.

    Args:
        source: images, read by `launch`.
        result: logits, written by `launch`.
        launch: starts the computation; it need not wait for the end.
    """

    source: Tensor
    result: Tensor
    launch: Callable[[], object]

    def __call__(self, images: Images) -> Images:
        self.bind(images)()
        logits: Images = self.result.cpu().numpy()
        return logits

    def bind(self, images: Images) -> Callable[[], object]:
        self.source.copy_(torch.from_numpy(images))

        def run() -> None:
            self.launch()
            torch.cuda.synchronize()

        return run


class GpuReference:
    """The reference kernel of `latency.measure` on a GPU, whose clock rate is independent of the processor's.

    It computes a matrix product, and a sum over 256 MB, which exceed the L2 cache.
    """

    def __init__(self, device: str = "cuda") -> None:
        self._a = torch.full((512, 512), 1 / 512, device=device)
        self._b = self._a.clone()
        self._big = torch.ones(1 << 26, device=device)

    def __call__(self) -> None:
        torch.mm(self._a, self._a, out=self._b)
        self._big.sum()
        if self._big.is_cuda:
            torch.cuda.synchronize()


def gpu(name: str) -> Hardware:
    """The GPU that torch uses.

    Raises:
        DeviceError: there is none.
    """
    if not torch.cuda.is_available():
        raise DeviceError(
            f"{name} needs an NVIDIA GPU with its driver, and torch {torch.__version__} finds none: use another runtime"
        )
    return Hardware(torch.cuda.get_device_name(), 1)


def _captured(model: nn.Module, *, threads: int, shape: Shape | None) -> OnGpu:
    """Capture a network in channels-last format, without folding batch norms."""
    assert shape is not None
    with torch.no_grad(), torch.backends.cudnn.flags(benchmark=True, deterministic=False, allow_tf32=False):
        own = model.to("cuda")
        source = torch.zeros(shape, device="cuda").contiguous(memory_format=torch.channels_last)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                own(source)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = own(source)
    return OnGpu(source, result, graph.replay)


CUDA = Runtime(
    "cuda",
    "CUDA",
    "torch",
    _captured,
    convert=lambda plan, weights, threads, shape: own_network(plan, weights),
    find=lambda: gpu("PyTorch on CUDA"),
    gpu=True,
)
