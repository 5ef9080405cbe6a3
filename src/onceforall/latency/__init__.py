"""Latency: measured on a device, estimated for every network of a space."""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .checked import checked_networks
    from .design import QUICK, Effort
    from .device import Available, Device, available, list_devices
    from .kit import export_kit, import_results
    from .measure import Timing, time_calls
    from .meters import load_onnx, measure_functions, measure_networks, measure_onnx
    from .networks import stand_in
    from .profile import profile_space
    from .table import LatencyErrors, LatencyTable, Measured

__all__ = [
    "QUICK", "Available", "Device", "Effort", "LatencyErrors", "LatencyTable", "Measured", "Timing", "available",
    "checked_networks", "export_kit", "import_results", "list_devices", "load_onnx", "measure_functions", "measure_networks",
    "measure_onnx", "profile_space", "stand_in", "time_calls",
]  # fmt: skip

load_on_use(__name__)
