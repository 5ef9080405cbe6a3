"""Operations of networks that someone brought, as ONNX: one table, `OPERATIONS`, of what is written for each."""

from .elementwise import ELEMENTWISE
from .layers import LAYERS
from .shapes import SHAPES
from .writer import NotWrittenError, Write, Writer

__all__ = ["OPERATIONS", "NotWrittenError", "Write", "Writer"]

OPERATIONS: dict[str, Write] = {**ELEMENTWISE, **SHAPES, **LAYERS}
