"""Recalibration against numpy, and every way to evaluate a network whose statistics are wrong."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from onceforall import Supernet
from onceforall.calibrate import Calibrated, Statistics, evaluate_network, recalibrate
from onceforall.errors import DataError, StatisticsError
from small_spaces import SPACES


def network(training: bool = True) -> fx.GraphModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(SPACES["single"], num_classes=7)
    supernet.forget_statistics()
    return supernet.train(training).extract(supernet.space.largest())


def batches(*sizes: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, 33, 33, generator=rng) for n in sizes]


def labelled(n: int = 9) -> list[tuple[Tensor, Tensor]]:
    return [(x, torch.arange(len(x)) % 7) for x in batches(n)]


@pytest.mark.parametrize("sizes", [(5,), (4, 4, 4), (6, 2, 3)])
def test_statistics_are_the_mean_of_the_batches_own(sizes: tuple[int, ...]) -> None:
    """Weighted by images; the variance is the unbiased one, as torch keeps it."""
    net = network()
    inputs: dict[str, list[np.ndarray[Any, Any]]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _m, x, name=name: inputs.setdefault(name, []).append(x[0].double().numpy()))
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    calibrated = recalibrate(net, batches(*sizes))
    for hook in hooks:
        hook.remove()
    assert calibrated.images == sum(sizes)
    for name, seen in inputs.items():
        norm = net.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        mean = sum(n * x.mean((0, 2, 3)) for n, x in zip(sizes, seen, strict=True)) / sum(sizes)
        var = sum(n * x.var((0, 2, 3), ddof=1) for n, x in zip(sizes, seen, strict=True)) / sum(sizes)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-4, atol=1e-6)


def test_recalibration_leaves_weights_and_settings() -> None:
    net = network()
    before = {name: p.clone() for name, p in net.named_parameters()}
    momenta = [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    recalibrate(net, batches(4))
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    assert not any(module.training for module in net.modules())


def test_recalibrating_twice_is_recalibrating_once() -> None:
    net = network()
    recalibrate(net, batches(4, 4))
    first = {name: b.clone() for name, b in net.named_buffers()}
    recalibrate(net, batches(4, 4))
    assert all(torch.equal(b, first[name]) for name, b in net.named_buffers())


def test_going_on_is_measuring_all_at_once() -> None:
    first, *others = batches(4, 3, 5)
    net = network()
    recalibrate(net, [first])
    begun = Statistics({name: b.clone() for name, b in net.named_buffers() if "running" in name}, 4, (3, 33, 33))
    whole, more = recalibrate(network(), [first, *others]), recalibrate(network(), others, begun=begun)
    assert (more.images, more.shape) == (whole.images, whole.shape) == (12, (3, 33, 33))
    found = dict(more.network.named_buffers())
    assert all(torch.equal(b, found[name]) for name, b in whole.network.named_buffers() if "running" in name)
    assert recalibrate(network(), [], begun=begun).images == 4
    with pytest.raises(StatisticsError, match="images of shapes"):
        recalibrate(network(), [torch.ones(2, 3, 17, 17)], begun=begun)
    begun = replace(begun, tensors=dict(list(begun.tensors.items())[1:]))
    with pytest.raises(StatisticsError, match="belong to another network"):
        recalibrate(network(), others, begun=begun)


def test_evaluate_against_numpy() -> None:
    calibrated = recalibrate(network(), batches(8))
    data = [*labelled(9), *labelled(4)]
    found = evaluate_network(calibrated, data)
    with torch.no_grad():
        logits = torch.cat([calibrated.network(x) for x, _ in data]).double().numpy()
    labels = torch.cat([y for _, y in data]).numpy()
    order = np.argsort(-logits, 1)
    assert found.images == 13
    assert found.top1 == pytest.approx((order[:, 0] == labels).mean())
    assert found.top5 == pytest.approx((order[:, :5] == labels[:, None]).any(1).mean())
    log_sum = np.log(np.exp(logits).sum(1))
    assert found.loss == pytest.approx((log_sum - logits[np.arange(13), labels]).mean(), rel=1e-5)


def test_evaluate_takes_only_what_recalibrate_returns() -> None:
    with pytest.raises(
        StatisticsError, match="evaluation takes the result of recalibrate, not a Subnet: recalibrate the network first"
    ):
        evaluate_network(network(training=False), labelled())  # type: ignore[arg-type]


def _write_weight(net: nn.Module) -> None:
    with torch.no_grad():
        next(net.parameters()).mul_(1.01)


def _write_statistic(net: nn.Module) -> None:
    next(net.buffers()).add_(1)


def _load(net: nn.Module) -> None:
    net.load_state_dict(copy.deepcopy(net.state_dict()))


def _step(net: nn.Module) -> None:
    net(batches(4)[0]).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def _replace_layer(net: nn.Module) -> None:
    net.get_submodule("head").add_module("classifier", nn.Linear(320, 7))


def _train_mode(net: nn.Module) -> None:
    net.train()


def _one_layer_in_train_mode(net: nn.Module) -> None:
    next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).train()


def _forward_in_train_mode(net: nn.Module) -> None:
    net.train()
    net(batches(4)[0])
    net.eval()


@pytest.mark.parametrize(
    "change",
    [_write_weight, _write_statistic, _load, _step, _replace_layer, _train_mode, _one_layer_in_train_mode, _forward_in_train_mode],
)
def test_a_network_changed_since_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    calibrated = recalibrate(network(), batches(4))
    evaluate_network(calibrated, labelled())
    change(calibrated.network)
    with pytest.raises(StatisticsError, match="changed or put in train mode after its recalibration: recalibrate it again"):
        evaluate_network(calibrated, labelled())
    evaluate_network(recalibrate(calibrated.network, batches(4)), labelled())


def test_evaluating_twice_is_fine() -> None:
    calibrated = recalibrate(network(), batches(4))
    assert evaluate_network(calibrated, labelled()) == evaluate_network(calibrated, labelled())


def test_no_images() -> None:
    with pytest.raises(StatisticsError, match="recalibration got no batches: give at least one batch of training images"):
        recalibrate(network(), [])
    with pytest.raises(DataError, match="no images to evaluate on"):
        evaluate_network(recalibrate(network(), batches(4)), [])


def test_a_single_image_has_no_statistics() -> None:
    with pytest.raises(StatisticsError, match="a batch of 1 image: batch statistics need at least 2"):
        recalibrate(network(), batches(4, 1))


@pytest.mark.parametrize("name", ["stem.first.conv.weight", "stages.2.0.depthwise.norm.bias", "head.classifier.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_weights(name: str, value: float) -> None:
    net = network()
    with torch.no_grad():
        net.get_parameter(name).select(0, 0).fill_(value)
    with pytest.raises(StatisticsError, match="is not finite after recalibration: the weights have diverged"):
        recalibrate(net, batches(4))


def test_broken_images() -> None:
    with pytest.raises(StatisticsError, match="is not finite"):
        recalibrate(network(), [torch.full((4, 3, 33, 33), torch.nan)])


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interrupted_recalibration_leaves_eval_mode(error: type[BaseException]) -> None:
    net = network()

    def interrupted() -> Iterator[Tensor]:
        yield batches(4)[0]
        raise error

    with pytest.raises(error):
        recalibrate(net, interrupted())
    assert not any(module.training for module in net.modules())
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_calibrated_is_read_only() -> None:
    calibrated = recalibrate(network(), batches(4))
    with pytest.raises(AttributeError):
        calibrated.version = 0  # type: ignore[misc]
    assert isinstance(calibrated, Calibrated)


def test_statistics_of_one_resolution_do_not_serve_another() -> None:
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    calibrated = recalibrate(small, [torch.randn(4, 3, 16, 16)])
    with pytest.raises(StatisticsError, match=r"have shape \(3, 32, 32\), the BatchNorm statistics were measured at \(3, 16, 16\)"):
        evaluate_network(calibrated, [(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long))])
    with pytest.raises(StatisticsError, match="statistics hold for one resolution"):
        recalibrate(small, [torch.randn(4, 3, 16, 16), torch.randn(4, 3, 24, 24)])
