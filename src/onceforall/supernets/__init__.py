"""Supernets: shared weights, extracting sub-networks, and converting a user's own model to a supernet."""
