"""The contract of every runtime.

One that cannot compute with several threads refuses them, and passes where it does.
"""

import builtins
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

import onceforall
from onceforall.errors import DeviceError, MissingExtraError, StatisticsError
from onceforall.latency import Device, stand_in
from onceforall.latency.networks import ready
from onceforall.latency.runtimes import RUNTIMES, Function, Runtime
from onceforall.latency.runtimes.onnxruntime import load_model

SPACE = onceforall.space("mobilenet_v3", width=0.35, resolutions=(20, 27), strides=(1, 1, 2, 2, 1, 1, 2))
PLAN = SPACE.lower(SPACE.largest(), 7)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return RUNTIMES[request.param]


def load(runtime: Runtime, network: fx.GraphModule, threads: int, batch: int = 1) -> Function:
    """The network with so many threads, or with one if the runtime says that it cannot use more."""
    try:
        return runtime.load(PLAN, network, threads=threads, batch=batch)
    except DeviceError as error:
        assert threads > 1
        assert re.search(rf"\b{threads}\b", str(error)), "the message names the number of threads"  # noqa: PT017
        return runtime.load(PLAN, network, threads=1, batch=batch)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_same_logits_as_pytorch(runtime: Runtime, batch: int, threads: int) -> None:
    images = np.random.default_rng(batch).standard_normal((batch, *PLAN.input_shape), np.float32)
    network = stand_in(PLAN, seed=batch)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    actual = load(runtime, network, threads, batch)(images)
    assert actual.shape == (batch, 7)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_pieces_run_alone(runtime: Runtime) -> None:
    for segment in PLAN.segments:
        piece = PLAN.piece(segment.name)
        images = np.ones((1, *piece.input_shape), np.float32)
        actual = runtime.load(piece, stand_in(piece), threads=1, batch=1)(images)
        assert actual.shape == (1, *piece.output_shape)
        assert np.isfinite(actual).all()


def test_leaves_process_and_network_as_they_were(runtime: Runtime) -> None:
    network = stand_in(PLAN)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads = torch.get_num_threads()
    network.train()
    load(runtime, network, threads + 1)(np.ones((1, *PLAN.input_shape), np.float32))
    assert torch.get_num_threads() == threads
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_statistics_that_are_not_finite_are_refused(runtime: str) -> None:
    network = stand_in(PLAN)
    network.get_submodule("stem.first.norm").get_buffer("running_mean").fill_(torch.nan)
    with pytest.raises(StatisticsError, match=r"stem.first.norm.running_mean holds values .* recalibrate"):
        ready(PLAN, network, Device(runtime))


def test_more_threads_than_processors_are_refused() -> None:
    have = os.cpu_count() or 1
    with pytest.raises(DeviceError, match=f"threads is {have + 1}, this machine has {have} processors"):
        ready(PLAN, stand_in(PLAN), Device("pytorch", threads=have + 1))


@pytest.mark.parametrize("threads", [1, 3])
def test_pytorch_computes_with_the_threads_asked_for(threads: int) -> None:
    seen: list[int] = []
    network = stand_in(PLAN)
    network.get_submodule("stem.first.conv").register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    RUNTIMES["pytorch"].load(PLAN, network, threads=threads, batch=1)(np.ones((1, *PLAN.input_shape), np.float32))
    assert seen == [threads]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
@pytest.mark.parametrize("threads", [1, 3])
def test_onnxruntime_starts_the_threads_asked_for(threads: int) -> None:
    network = stand_in(PLAN)
    RUNTIMES["onnxruntime"].load(PLAN, network, threads=1, batch=1)  # whatever the package starts once
    before = len(os.listdir("/proc/self/task"))
    function = RUNTIMES["onnxruntime"].load(PLAN, network, threads=threads, batch=1)
    function(np.ones((1, *PLAN.input_shape), np.float32))
    assert len(os.listdir("/proc/self/task")) - before == threads - 1


def test_onnxruntime_refuses_what_is_no_model() -> None:
    with pytest.raises(DeviceError, match="ONNX Runtime cannot load the model"):
        load_model(b"no model", threads=1, batch=1)


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str, *arguments: object) -> object:
        if name == "onnxruntime":
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"'onnxruntime', which is not installed: pip install 'onceforall\[onnx\]'"):
        load_model(b"", threads=1, batch=1)
