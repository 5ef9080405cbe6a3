"""ExecuTorch on the CPU, float32, through XNNPACK."""

from ...plan import Plan
from .common import FLOAT, Hardware, Images, OnHost, Weights, own_network, processor, require
from .converted import Converted

__all__ = ["ExecuTorch"]


class ExecuTorch:
    """`torch.export`, then lowered to XNNPACK. All networks that are loaded at once use one number of threads."""

    package = "executorch"
    tolerance = FLOAT

    def __init__(self) -> None:
        self._converted = Converted()

    def hardware(self) -> Hardware:
        require("executorch", "executorch")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        import torch

        from ...nn.executorch import Program, lower

        self.hardware()
        content = self._converted.get(
            plan, weights, (batch,), lambda: lower(own_network(plan, weights), (batch, *plan.input_shape))
        )
        program = Program.load(content, threads)

        def run(images: Images) -> Images:
            logits: Images = program(torch.from_numpy(images)).numpy()
            return logits

        return OnHost(run)
