"""What converters made that take seconds for a network, so that a profile, which loads each network several times, waits once."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from ...plan import Plan
from .common import Weights

__all__ = ["Converted"]

MOST_BYTES = 500_000_000


class Converted:
    """Models in memory, the last used ones, by plan, batch size and all values of the network.

    Args:
        most_bytes: of all models together; one that is larger alone is not kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._models: OrderedDict[tuple[Plan, int, bytes], bytes] = OrderedDict()

    def get(self, plan: Plan, weights: Weights, batch: int, convert: Callable[[], bytes]) -> bytes:
        """The model of the plan's network with these weights, made by `convert` if it is not there."""
        key = plan, batch, _values(weights)
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        model = self._models[key] = convert()
        self._bytes += len(model)
        while self._bytes > self._most:
            self._bytes -= len(self._models.popitem(last=False)[1])
        return model


def _values(weights: Weights) -> bytes:
    digest = sha256()
    for name, value in weights.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
