"""`Budget`: what a network may cost, and the options that say it."""

from dataclasses import asdict, dataclass

from ..errors import InfeasibleError
from ..readable import quantity
from .declare import Flag
from .values import amount, latencies_ms, memory_bytes

__all__ = ["LIMITS", "Budget", "budgets_of"]


@dataclass(frozen=True)
class Budget:
    """Limits of one search; None is no limit. Latency is that of the device; memory is of activations, float32, one image.

    Flash and RAM are a microcontroller's: of weights and of activations in int8.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    memory_bytes: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise InfeasibleError(f"the limit {name} is {value}: it must be a number above 0")

    def __str__(self) -> str:
        """In words, such as "5.00 ms, 100.0 M MACs"."""
        return ", ".join(quantity(name, value) for name, value in asdict(self).items() if value is not None) or "no limit"


LIMITS = {
    "latency": Flag("Longest, e.g. 5ms; several: 2ms,5ms.", "TIME", read=latencies_ms),
    "macs": Flag("Most multiply-accumulates, e.g. 300M.", "N", read=amount),
    "params": Flag("Most parameters, e.g. 4M.", "N", read=amount),
    "memory": Flag("Most activation memory of one image, e.g. 2MB.", "SIZE", read=memory_bytes),
    "flash": Flag("Microcontrollers: most int8 weights, e.g. 1MB.", "SIZE", read=memory_bytes),
    "ram": Flag("Microcontrollers: most int8 activations, e.g. 256kB.", "SIZE", read=memory_bytes),
}


def budgets_of(
    latency: list[float] | None = None,
    macs: float | None = None,
    params: float | None = None,
    memory: float | None = None,
    flash: float | None = None,
    ram: float | None = None,
) -> tuple[Budget, ...]:
    """What the options mean: a budget for each latency, one without latency, or none where nothing is limited."""
    if all(limit is None for limit in (latency, macs, params, memory, flash, ram)):
        return ()
    times: list[float | None] = [None] if latency is None else [*latency]
    return tuple(Budget(ms, macs, params, memory, flash, ram) for ms in times)
