"""What networks that are taken home are called."""

from pathlib import Path

import pytest

from onceforall.latency import Device
from onceforall.options.shared import Budget
from onceforall.pipeline.specialising.choose import folder_name, limits_name, name_in

CPU = Device.parse("cpu")


@pytest.mark.parametrize(
    ("limits", "name", "before"),
    [
        ({}, "best", "best"),
        ({"latency_ms": 5.0}, "5ms", "5ms"),
        ({"latency_ms": 0.125, "params": 3e5}, "0.125ms-300k-params", "0.125ms-3e05params"),
        ({"latency_ms": 25000.0}, "25000ms", "2.5e04ms"),
        ({"macs": 3e8}, "300M-macs", "3e08macs"),
        ({"macs": 1234567.0}, "1.235M-macs", "1.235e06macs"),
        ({"macs": 999999.0}, "1M-macs", "1e06macs"),
        ({"params": 900.0}, "900-params", "900params"),
        ({"memory_bytes": 2e6}, "2MB", "2e06bytes"),
        ({"flash_bytes": 1e6, "ram_bytes": 256e3}, "1MB-flash-256kB-ram", "1e06flash-2.56e05ram"),
    ],
)
def test_limits_are_readable_and_old_names_stay(limits: dict[str, float], name: str, before: str, tmp_path: Path) -> None:
    budget, place, unfinished = Budget(**limits), tmp_path / "specialised", tmp_path / "finetuned"
    assert limits_name(budget) == name
    new = folder_name(CPU, budget)
    assert new == f"{CPU.runtime}-{name}"
    assert name_in(place, unfinished, CPU, budget) == new
    (unfinished / f"{CPU.runtime}-{before}-abc").mkdir(parents=True)
    assert name_in(place, unfinished, CPU, budget) == f"{CPU.runtime}-{before}", "its fine-tuning goes on"
    (place / new).mkdir(parents=True)
    assert name_in(place, unfinished, CPU, budget) == new
