"""The plain network of a plan."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from onceforall import Plan, Space
from onceforall.nn.calls import Mode
from onceforall.nn.operations import OPERATIONS
from onceforall.nn.static import build
from onceforall.ops import Activation, ActivationName, Add, Conv, Flatten, GlobalPool, Linear, Norm
from onceforall.plan import Segment
from small_spaces import SPACES


def test_only_torch_layers(space: Space) -> None:
    with torch.device("meta"):
        network = build(space.lower(space.smallest(), 3))
    assert type(network).__name__ == "Subnet"
    assert {type(module).__module__.split(".")[0] for module in network.modules()} == {"torch"}


@pytest.mark.parametrize("function", get_args(ActivationName))
def test_activations_are_the_supernets(function: ActivationName) -> None:
    x = torch.linspace(-8, 8, 101)
    op, row = Activation("act", ("in",), (101,), function), OPERATIONS[Activation]
    assert row.run is not None
    torch.testing.assert_close(row.module(op, 0.0, False)(x), row.run(op, [x], Mode(training=False), False))


def test_readable_code(small_space: Space) -> None:
    network = build(small_space.lower(small_space.smallest(), 3))
    assert "first.conv(x)" in network.code
    assert (
        "operator.add" in network.code
        or "+" in network.code
        or not any(isinstance(op, Add) for op in small_space.lower(small_space.smallest(), 3).ops)
    )


def test_every_intermediate_shape_is_the_plans(small_space: Space) -> None:
    plan = small_space.lower(small_space.sample(np.random.default_rng(0)), 3)
    network = build(plan).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _x, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))
    with torch.no_grad():
        network(torch.randn(1, *plan.input_shape))
    ops = {f"{segment.name}.{op.name}": op for segment in plan.segments for op in segment.ops}
    assert {name: shape for name, shape in seen.items() if name in ops} == {name: ops[name].shape for name in seen if name in ops}


def test_a_piece_runs_alone(small_space: Space) -> None:
    plan = small_space.lower(small_space.largest(), 3)
    for segment in plan.segments:
        piece = plan.piece(segment.name)
        with torch.no_grad():
            out = build(piece).eval()(torch.randn(2, *piece.input_shape))
        assert out.shape == (2, *piece.output_shape)


def test_pieces_make_the_whole(small_space: Space) -> None:
    plan = small_space.lower(small_space.sample(np.random.default_rng(1)), 3)
    whole = build(plan).eval()
    x = torch.randn(2, *plan.input_shape)
    with torch.no_grad():
        expected = whole(x)
        for segment in plan.segments:
            piece = build(plan.piece(segment.name)).eval()
            piece.load_state_dict({name: whole.state_dict()[name] for name in piece.state_dict()})
            x = piece(x)
    assert torch.equal(x, expected)


def test_dropout_rate() -> None:
    space = SPACES["single"]
    network = build(space.lower(space.largest(), 3), dropout=0.25)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.25]


def test_traced_scripted_and_saved() -> None:
    """Plain means that torch's own tools work."""
    space = SPACES["single"]
    network = build(space.lower(space.largest(), 3)).eval()
    x = torch.randn(2, 3, 33, 33)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(x), network(x), atol=1e-6)


@pytest.mark.parametrize("function", ["relu", "relu6", "h_swish", "h_sigmoid"])
def test_an_activation_does_not_spoil_what_others_read(function: str) -> None:
    """Pre-activation block: the shortcut reads what went into the activation; and the caller keeps the image."""
    shape = (4, 6, 6)
    block = Segment(
        "block",
        shape,
        (
            Activation("act", ("in",), shape, function),  # type: ignore[arg-type]
            Conv("conv", ("act",), shape, 4),
            Add("add", ("in", "conv"), shape),
        ),
    )
    network = build(Plan((block, Segment("again", shape, block.ops)))).eval()
    x = 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    acts = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), "h_swish": nn.Hardswish(), "h_sigmoid": nn.Hardsigmoid()}
    expected = x
    with torch.no_grad():
        for name in ("block", "again"):
            conv = network.get_submodule(f"{name}.conv")
            expected = expected + conv(acts[function](expected))
        assert torch.equal(network(x), expected)
    assert torch.equal(x, kept)


def test_norm_epsilon_and_an_empty_middle() -> None:
    ops = (
        Norm("norm", ("in",), (4, 5, 5), 1e-3),
        GlobalPool("pool", ("norm",), (4, 1, 1)),
        Flatten("flatten", ("pool",), (4,)),
        Linear("classifier", ("flatten",), (2,), 4),
    )
    network = build(Plan((Segment("head", (4, 5, 5), ops),)))
    assert [m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == [1e-3]
    assert network(torch.randn(2, 4, 5, 5)).shape == (2, 2)
