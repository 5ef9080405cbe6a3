"""Torch layers of the supernet and the plain network built from a plan."""
