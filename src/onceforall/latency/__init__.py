"""Latency: measured on this machine, estimated for every network of a space."""

from .device import Available, Device, list_devices
from .measure import Timing, measure
from .networks import measure_networks, stand_in

__all__ = ["Available", "Device", "Timing", "list_devices", "measure", "measure_networks", "stand_in"]
