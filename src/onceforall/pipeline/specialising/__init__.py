"""The parts of `ofa specialise` and `ofa bundle`, from the choice of a network to the measurements of its files."""
