"""A cache of slow conversions, so that a profile, which loads each network several times, converts it only once."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import IO, Any

from ..plan import Plan

Weights = Mapping[str, Any]  # tensors of a state dict

MOST_BYTES = 5_000_000_000


class Converted:
    """Models by plan, settings and weights, in a temporary file that is deleted when this process ends.

    Args:
        most_bytes: maximum size of all models; models beyond this, or that do not fit on the disk, are not cached.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._file: IO[bytes] | None = None
        self._places: dict[tuple[Plan, tuple[int, ...], bytes], tuple[int, int]] = {}

    def get(self, plan: Plan, weights: Weights, settings: tuple[int, ...], convert: Callable[[], bytes]) -> bytes:
        """The model of the plan's network with these weights, made by `convert` if it is not cached.

        Args:
            weights: tensors of its state dict.
            settings: settings that the model depends on, such as the batch size.
            convert: makes the model.
        """
        key = plan, settings, _values(weights)
        if key in self._places and self._file is not None:
            at, size = self._places[key]
            self._file.seek(at)
            return self._file.read(size)
        model = convert()
        if self._bytes + len(model) <= self._most:
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # open during the lifetime of this object
                    weakref.finalize(self, self._file.close)
                self._file.seek(self._bytes)
                whole = self._file.write(model) == len(model)
            except OSError:  # the disk is full; it will be converted again
                return model
            if whole:
                self._places[key] = self._bytes, len(model)
                self._bytes += len(model)
        return model


def _values(weights: Weights) -> bytes:
    digest = sha256()
    for name, value in weights.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
