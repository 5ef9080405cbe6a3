"""Write operations of users' own networks as ONNX; the table `OPERATIONS` has a function for each."""

from .elementwise import ELEMENTWISE
from .layers import LAYERS
from .shapes import SHAPES
from .writer import NotWrittenError, Write, Writer

__all__ = ["OPERATIONS", "NotWrittenError", "Write", "Writer"]

OPERATIONS: dict[str, Write] = {**ELEMENTWISE, **SHAPES, **LAYERS}
