"""Supernets: shared weights, extraction of sub-networks, and conversion of a user's own model."""
