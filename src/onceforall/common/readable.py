"""Numbers for people: rounded, with units, and confidence intervals of counted fractions."""

from collections.abc import Sequence
from math import ceil, floor, isfinite, log10, sqrt
from typing import TypeGuard

MISSING = "–"
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def between(interval: tuple[float, float] | None) -> str:
    """An interval of shares as text to append to a score: " (83.1 % to 90.0 %)"; "" if there is none."""
    return "" if interval is None else " ({} to {})".format(*map(percent, interval))


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (95 % for z = 1.96) of a share in [0, 1] counted on n images (Wilson 1927).

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a share needs at least 1 image")
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two fractions of the same n images, the second of which gains and loses these images.

    Wald's interval after half an image is added to each of the four cells (Agresti and Min 2005).

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a share needs at least 1 image")
    middle = (gained - lost) / (n + 2)
    half = 1.96 * sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2)
    return middle - half, middle + half


def percent(share: float | None, digits: int = 1) -> str:
    """0.9731 -> "97.3 %"."""
    return f"{100 * share:.{digits}f} %" if _known(share) else MISSING


def milliseconds(value: float | None) -> str:
    """Three significant digits: "4.21 ms"."""
    if not _known(value):
        return MISSING
    if 0 < value < 0.1:
        return f"{value:.3g} ms"
    digits = 3 if value < 1 else max(0, 2 - int(log10(value)))
    return f"{value:.{digits}f} ms"


def amount(value: float | None) -> str:
    """28,883,440 -> "28.9 M"; from 10^15 on as a power of ten."""
    if not _known(value):
        return MISSING
    if abs(value) >= 1e15:
        power = int(log10(abs(value)))
        return f"{value / 10**power:.1f} × 10{str(power).translate(SUPERSCRIPTS)}"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.{2 if abs(scaled) < 10 else 1}f} {unit}"
    return f"{value:,.0f}"


def memory(size: float | None) -> str:
    """Bytes as kB or MB (1 MB = 10^6 bytes)."""
    if not _known(size):
        return MISSING
    if size < 1e3:
        return f"{size:.0f} B"
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def quantity(name: str, value: float) -> str:
    """A cost or limit, given its name in code: ("macs", 1e8) -> "100.0 M MACs"; unknown names as "name value"."""
    match name:
        case "latency_ms":
            return milliseconds(value)
        case "macs":
            return f"{amount(value)} MACs"
        case "params":
            return f"{amount(value)} parameters"
        case "memory_bytes":
            return f"{memory(value)} of activations"
        case "flash_bytes":
            return f"{memory(value)} of flash"
        case "ram_bytes":
            return f"{memory(value)} of RAM"
    return f"{name} {value:.6g}"


def rounded_up(value: float, digits: int = 3) -> float:
    """Round up to `digits` significant digits, so that the printed limit suffices: 100,040,000 -> 101,000,000."""
    if not _known(value) or value <= 0:
        return value
    step = 10.0 ** (floor(log10(value)) - digits + 1)
    return float(f"{ceil(value / step - 1e-9) * step:.{digits}g}")


def plural(number: int, thing: str) -> str:
    """(1, "epoch") -> "1 epoch", (2, "epoch") -> "2 epochs"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def duration(seconds: float | None) -> str:
    """3,725 -> "1 h 2 min"."""
    if not _known(seconds):
        return MISSING
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars inside cells are escaped, line breaks become spaces."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def kendall_text(tau: float, ceiling: float | None) -> str:
    """Kendall's tau as text, with the highest value that measurement noise allows, which is a rough estimate for few networks."""
    known = ceiling is not None and ceiling >= tau
    return f"{tau:.3f}" + (f" (a perfect one would reach about {ceiling:.2f}: measurements are noisy)" if known else "")
