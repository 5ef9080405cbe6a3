"""LiteRT on the CPU, float32, through XNNPACK."""

from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, own_network, processor, require
from .converted import Converted

__all__ = ["LiteRt"]


class LiteRt:
    """`torch.export`, converted by litert-torch for one batch size."""

    package = "ai-edge-litert"
    tolerance = FLOAT

    def __init__(self) -> None:
        self._converted = Converted()

    def hardware(self) -> Hardware:
        from ...nn.litert import PACKAGES

        for package in PACKAGES:
            require(package, "litert")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...nn.litert import LiteModel, convert

        self.hardware()
        content = self._converted.get(
            plan, weights, (batch,), lambda: convert(own_network(plan, weights), (batch, *plan.input_shape))
        )
        model = LiteModel.load(content, threads)
        return OnHost(model, timed=model.run)
