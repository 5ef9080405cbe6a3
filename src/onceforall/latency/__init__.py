"""Latency: measured on this machine, estimated for every network of a space."""

from .device import Available, Device, list_devices
from .measure import Timing, measure
from .networks import measure_networks, measure_onnx, stand_in
from .profile import Effort, profile_space
from .table import LatencyErrors, LatencyTable, Measured

__all__ = [
    "Available",
    "Device",
    "Effort",
    "LatencyErrors",
    "LatencyTable",
    "Measured",
    "Timing",
    "list_devices",
    "measure",
    "measure_networks",
    "measure_onnx",
    "profile_space",
    "stand_in",
]
