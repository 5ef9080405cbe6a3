"""The run directory: what commands leave in it for each other."""
