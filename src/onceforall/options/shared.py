"""Arguments that several commands have."""

from functools import partial

from .declare import Flag, argument, option

__all__ = [
    "DEVICE",
    "device",
    "finalists",
    "known_devices",
    "moved",
    "names_in",
    "on_host",
    "ray",
    "run_folder",
    "seed",
    "torch_device",
]

DEVICE = Flag("cpu, or RUNTIME:threads=N; see ofa devices.", "DEVICE", default="cpu", complete="devices")

# fields, to be called in a class
run_folder = partial(argument, "Run directory, made by ofa train or ofa import.", "RUN", complete="run", opened=True)
seed = partial(option, "Same seed, same result.", "N", 0, least=0, most=2**32 - 1)
moved = partial(option, "Where the images are now, if they have moved.", "DATA")
device = partial(option, DEVICE.help, DEVICE.metavar, complete=DEVICE.complete)
torch_device = partial(option, "auto (a GPU if there is one), cpu, cuda or cuda:N.", "DEVICE", "auto", complete="compute")
ray = partial(option, "Share out over a Ray cluster: host:port, auto, local.", "ADDRESS")
finalists = partial(option, "Best predicted networks to measure.", "N", 5, least=1)


def names_in(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",")]


def on_host(device: str, host: str | None) -> str:
    """The device's text with another machine."""
    return device if host is None else f"{device}@{host}"


def known_devices(*devices: str) -> None:
    """Raises a `DeviceError` if one is none."""
    from ..latency import Device  # help does without

    for text in devices:
        Device.parse(text)
