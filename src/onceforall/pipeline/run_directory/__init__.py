"""The run directory, through which commands share their results."""
