"""PyTorch eager on the CPU, float32, as `backends/pytorch.py` runs it."""

from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, own_network, processor

__all__ = ["PyTorch"]


class PyTorch:
    """The network as it is, batch norms not folded."""

    package = "torch"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...backends import pytorch

        return OnHost(pytorch.load(own_network(plan, weights), threads=threads, shape=(batch, *plan.input_shape)))
