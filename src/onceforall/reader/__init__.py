"""From a trained model to a `Graph`: traced by torch, its tied dimensions and its blocks found on the graph."""

from .read import read

__all__ = ["read"]
