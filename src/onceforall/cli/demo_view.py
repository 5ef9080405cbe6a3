"""The final output of `ofa demo`, for someone who sees all of this for the first time."""

from ..common.readable import amount, memory, milliseconds, percent, wilson
from ..pipeline.demo import Demo, Gain
from ..pipeline.specialising.record import Specialised
from ..resolutions import in_pixels

HEADER = ("allowed", "latency", "test top-1 (95 % interval)", "file", "network")


def demo_lines(done: Demo) -> list[str]:
    """The two ends, a table of the networks, and what each slower network gains over the faster one."""
    ends = ", ".join(f"{end.name} {percent(end.accuracy.top1)}" for end in done.ends)
    (images,) = {end.accuracy.images for end in done.ends}
    rows = [HEADER, *(_row(network) for network in done.networks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"one training, {amount(done.run.space.count())} networks; test top-1 on {images} images: {ends}",
        f"the network chosen for each allowed latency, on {done.run.info.images['held-out']} other images:",
        "",
        *("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        "",
        *(_bought(fast, gain) for fast, gain in zip(done.networks[:-1], done.gains, strict=False)),
        f"in all, {_bought(done.networks[0], done.gains[-1])}",
        f"exported files: {done.run.folder / 'specialised'}",
        f"report: {done.page}",
    ]


def _row(network: Specialised) -> tuple[str, ...]:
    low, high = wilson(network.test.top1, network.test.images)
    arch = network.arch
    return (
        milliseconds(network.budget.latency_ms),
        milliseconds(network.latency.ms),
        f"{percent(network.test.top1)} ({100 * low:.1f} to {100 * high:.1f})",
        memory((network.folder / "model.onnx").stat().st_size),
        f"{in_pixels(arch.resolution)}, {sum(arch.depths)} blocks",
    )


def _bought(fast: Specialised, gain: Gain) -> str:
    if gain.ms <= 0:
        return f"more than {milliseconds(fast.latency.ms)} was not worth it"
    text = f"{milliseconds(gain.ms)} more than {milliseconds(fast.latency.ms)} buy {gain.points:.1f} points of accuracy"
    text += f" (95 % interval {gain.low:.1f} to {gain.high:.1f})"
    return text if gain.sure else f"{text}, which may be chance"
