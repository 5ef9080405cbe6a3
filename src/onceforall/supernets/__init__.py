"""Supernets: shared weights, what is taken out of them, and how a model of someone's own becomes one."""
