"""The parts of `ofa train` and `ofa import`."""
