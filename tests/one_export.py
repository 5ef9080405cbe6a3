"""An exported folder in one call: written, proven, measured, in its place."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onceforall.export import CardFacts, ExportConfig, Exporting, InputSteps, exporting
from onceforall.space import Space


def export_network(
    folder: Path,
    *,
    space: Space,
    arch: Any,
    network: Any,
    classes: Sequence[str],
    preprocessing: InputSteps,
    measure: Callable[[Path], CardFacts],
    onnx: Any = None,
    **more: Any,
) -> Exporting:
    """`measure` is called with the folder of the proven files, for what the card tells about them."""
    with exporting(folder, ExportConfig(space, tuple(classes), preprocessing, onnx), arch, network, **more) as made:
        made.finish(measure(made.files))
        return made
