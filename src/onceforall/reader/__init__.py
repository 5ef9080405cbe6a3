"""Read a trained model as a `Graph`: torch traces it, then tied dimensions and blocks are found on the graph."""

from .read import read

__all__ = ["read"]
