import sys
from dataclasses import replace
from importlib import metadata

import pytest

from onceforall.backends import RUNTIMES
from onceforall.backends.common import Hardware
from onceforall.common.processors import processors
from onceforall.errors import DeviceError
from onceforall.latency import Device, list_devices


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", Device("onnxruntime", 1, 1)),
        ("pytorch", Device("pytorch")),
        ("onnxruntime:threads=2", Device("onnxruntime", threads=2)),
        ("pytorch:batch=8,threads=3", Device("pytorch", threads=3, batch=8)),
    ],
)
def test_parse(text: str, device: Device) -> None:
    assert Device.parse(text) == device
    assert Device.parse(device.spec) == device


def test_name_is_fit_for_a_folder() -> None:
    assert str(Device.parse("cpu:threads=2")) == "onnxruntime-threads2-batch1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpu", f"unknown runtime 'tpu': choose one of {', '.join(RUNTIMES)}, cpu$"),
        ("", "unknown runtime ''"),
        ("cpu:cores=2", "unknown device setting 'cores' .* choose from threads, batch"),
        ("cpu:threads=two", "threads is 'two' .* whole number of at least 1"),
        ("cpu:threads=", "threads is ''"),
        ("cpu:threads=0", "threads is 0: it must be a whole number of at least 1"),
        ("cpu:batch=-1", "batch is '-1'"),
        ("cpu:threads=1,threads=2", "threads is given twice"),
    ],
)
def test_errors_name_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        Device.parse(text)


def test_list_devices() -> None:
    found = {available.runtime: available for available in list_devices()}
    assert list(found) == list(RUNTIMES)
    for available in found.values():
        assert available.processor
        if available.lacks is None:
            assert available.version == metadata.version(RUNTIMES[available.runtime].package)
            assert available.threads == (1 if available.runtime in ("cuda", "tensorrt") else processors())
        else:
            assert "\n" not in available.lacks
    assert found["pytorch"].lacks is None


def test_what_is_lacking_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = {available.runtime: available.lacks for available in list_devices()}
    assert (found["openvino"] or "").endswith("pip install 'onceforall[openvino]'")


def test_files_have_the_latency_of_this_processor_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a network for a GPU, or for another machine, gives no times of files that ran on this processor."""
    assert Device("onnxruntime", threads=2).on_processor
    assert not Device("onnxruntime", host="ssh://me@board").on_processor
    assert not Device.parse("imported@phone").on_processor
    monkeypatch.setitem(RUNTIMES, "cuda", replace(RUNTIMES["cuda"], find=lambda: Hardware("some GPU", 1)))
    assert not Device("cuda").on_processor
