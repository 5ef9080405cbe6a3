"""`ofa accuracy`: accuracies of sub-networks, measured and predicted."""
