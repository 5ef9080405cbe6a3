"""Arguments shared by several commands."""

from dataclasses import asdict, dataclass
from functools import partial

from ..common.readable import quantity
from ..data.reading import AS_IT_IS, reading_of
from ..errors import InfeasibleError
from .declare import Flag, argument, group, option
from .values import amount_of_text, latencies_ms, memory_bytes

DEVICE = Flag("cpu, or e.g. pytorch:threads=2; see ofa devices.", "DEVICE", default="cpu", complete="devices")

RUN = Flag("Run directory, made by ofa train or ofa import.", "RUN", complete="run", positional=True, opened=True)
SEED = Flag("Same seed, same result.", "N", least=0, most=2**32 - 1)
MOVED = Flag("Where the images are now if moved, e.g. /mnt/photos.", "DATA")

# field factories, called in class bodies
run_folder = partial(argument, RUN.help, "RUN", complete="run", opened=True)
seed = partial(option, SEED.help, "N", 0, least=0, most=SEED.most)
moved = partial(option, MOVED.help, "DATA")
device = partial(option, DEVICE.help, DEVICE.metavar, complete=DEVICE.complete)
torch_device = partial(option, "auto (a GPU if there is one), cpu, cuda or cuda:N.", "DEVICE", "auto", complete="compute")
ray = partial(option, "Distribute over a Ray cluster, e.g. auto; host:port.", "ADDRESS")
reading = partial(
    group,
    AS_IT_IS,
    reading_of,
    {
        "label": Flag("Label column, e.g. breed (multilabel: or a,b,c).", "NAME"),
        "classes": Flag("Only these, e.g. cat,dog,other=eel+cow; or a file.", "CLASSES"),
        "group": Flag(r"Groups to keep whole: column, or regex, e.g. 'id\d+'.", "TEXT"),
        "few": Flag("Allow classes with few images, or none in a split.", kind=bool, default=False),
        "task": Flag("multiclass, or e.g. multilabel: any number of labels.", "TASK", complete="task"),
    },
)
FINALISTS = 5  # by default
finalists = partial(option, "Measure the N networks predicted best.", "N", FINALISTS, least=1)


def names_in(text: str) -> list[str]:
    """Split comma-separated names."""
    return [name.strip() for name in text.split(",")]


def on_host(device: str, host: str | None) -> str:
    """Add the host, if given, to a device's text."""
    return device if host is None else f"{device}@{host}"


def known_devices(*devices: str) -> None:
    """Raise a `DeviceError` if one of these is not a device."""
    from ..latency import Device  # not needed for --help

    for text in devices:
        Device.parse(text)


@dataclass(frozen=True)
class Budget:
    """Limits of one search; None means no limit. Latency is measured on the device; memory is for one image's float32 activations.

    Flash and RAM are for microcontrollers: int8 weights and int8 activations.
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
        """As text, such as "5.00 ms, 100.0 M MACs"."""
        return ", ".join(quantity(name, value) for name, value in asdict(self).items() if value is not None) or "no limit"


LIMITS = {
    "latency": Flag("Maximum latency, e.g. 5ms; several: 2ms,5ms.", "TIME", read=latencies_ms),
    "macs": Flag("Maximum multiply-accumulates, e.g. 300M.", "N", read=amount_of_text),
    "params": Flag("Maximum parameters, e.g. 4M.", "N", read=amount_of_text),
    "memory": Flag("Maximum activation memory for one image, e.g. 2MB.", "SIZE", read=memory_bytes),
    "flash": Flag("Microcontrollers: maximum int8 weights, e.g. 1MB.", "SIZE", read=memory_bytes),
    "ram": Flag("Microcontrollers: maximum int8 activations, e.g. 256kB.", "SIZE", read=memory_bytes),
}


def budgets_of(
    latency: list[float] | None = None,
    macs: float | None = None,
    params: float | None = None,
    memory: float | None = None,
    flash: float | None = None,
    ram: float | None = None,
) -> tuple[Budget, ...]:
    """The budgets that the options describe: one per latency, one if there are only other limits, none without limits."""
    if all(limit is None for limit in (latency, macs, params, memory, flash, ram)):
        return ()
    times: list[float | None] = [None] if latency is None else [*latency]
    return tuple(Budget(ms, macs, params, memory, flash, ram) for ms in times)
