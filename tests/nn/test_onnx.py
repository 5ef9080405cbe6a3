"""The ONNX file computes what PyTorch computes."""

import sys
from dataclasses import replace
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import onceforall
from onceforall.common.onnx_options import OPSET, OPSETS
from onceforall.errors import CheckpointError, DeviceError, MissingExtraError, StatisticsError
from onceforall.export.proof import Reference, compare_logits, reference_of
from onceforall.nn.onnx import to_onnx
from onceforall.nn.static import build
from onceforall.ops import Activation, ActivationName, Add, Conv, Norm
from onceforall.plan import Plan, Segment
from onceforall.space import Space
from small_spaces import SMALL
from small_spaces import SPACES as SHARED

SPACES = {
    "digits": onceforall.space("mobilenet_v3", width=0.5, resolutions=(20, 28, 31), strides=(1, 1, 2, 2, 1, 1, 2)),
    "wide": onceforall.space("mobilenet_v3", width=1.0, resolutions=(64,), expand_ratios=(1.5, 3)),
}


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Weights and statistics far from their initial values, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dtype != torch.float32:
                continue
            if "running_var" in name or ("norm" in name and "weight" in name):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            else:
                value.normal_(0, 0.3, generator=generator)
    return network.eval()


def run(model: bytes, images: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@lru_cache(maxsize=1)  # the same network is written in several ways, one after the other
def random_network(plan: Plan, seed: int, batch: int) -> tuple[nn.Module, Tensor, Reference]:
    network = randomise(build(plan), seed)
    images = torch.randn((batch, *plan.input_shape), generator=torch.Generator().manual_seed(seed))
    return network, images, reference_of(network, images)


def assert_same(plan: Plan, seed: int, batch: int = 2, **options: Any) -> None:
    network, images, expected = random_network(plan, seed, batch)
    expected = replace(expected, logits=expected.logits.flatten(1))
    expected = expected.probabilities("softmax") if options.get("softmax") else expected
    found = compare_logits("model.onnx", expected, [run(to_onnx(plan, network, **options), images).flatten(1)])
    assert found.tolerance < 0.02 * found.largest_logit, "too badly conditioned to tell a wrong file"


@pytest.fixture(params=[*SPACES, *SMALL])
def space(request: pytest.FixtureRequest) -> Space:
    return (SPACES | SHARED)[request.param]


@pytest.mark.parametrize("seed", range(3))
def test_same_logits_as_pytorch(space: Space, seed: int) -> None:
    assert_same(space.lower(space.sample(np.random.default_rng(seed)), 10), seed, batch=1 + seed % 3)


def test_every_segment_alone(space: Space) -> None:
    plan = space.lower(space.largest(), 10)
    for i, segment in enumerate(plan.segments):
        assert_same(plan.piece(segment.name), i)


@pytest.mark.parametrize("function", get_args(ActivationName))
def test_every_activation_and_a_norm_that_cannot_be_folded(function: ActivationName) -> None:
    shape = (4, 5, 5)
    ops = [Conv("conv", ("in",), shape, 4, 3), Norm("norm", ("conv",), shape), Add("both", ("conv", "norm"), shape)]
    ops += [Norm("after", ("both",), shape), Activation("act", ("after",), shape, function)]
    assert_same(Plan((Segment("only", shape, tuple(ops)),)), 0)


def default_of(node: onnx.NodeProto, name: str, opset: int) -> object:
    """ONNX's default of an attribute: in the operator's schema, or, of windows, in its text only."""
    if name in ("strides", "dilations"):
        return [1, 1]
    if name == "pads":
        return [0, 0, 0, 0]
    found = onnx.defs.get_schema(node.op_type, opset).attributes[name].default_value
    return onnx.helper.get_attribute_value(found) if found.type else None


@pytest.mark.parametrize("opset", [OPSETS[0], OPSET, OPSETS[-1]])
def test_nothing_that_is_onnx_s_default_is_written(space: Space, opset: int) -> None:
    """OpenCV's dnn takes a HardSigmoid with beta written out, and a Mul after it, for a HardSwish."""
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("the installed onnx is older")
    kinds = set()
    for arch in (space.largest(), space.smallest(), space.sample(np.random.default_rng(0))):
        plan = space.lower(arch, 10)
        network = build(plan).eval()
        for softmax in (False, True):
            for node in onnx.load_from_string(to_onnx(plan, network, opset=opset, softmax=softmax)).graph.node:
                kinds.add(node.op_type)
                for attribute in node.attribute:
                    assert onnx.helper.get_attribute_value(attribute) != default_of(node, attribute.name, opset), node
    assert kinds >= {"Conv", "Gemm", "GlobalAveragePool", "Softmax"}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ["digits", "proxyless", "resnet"])
def test_every_opset_is_written_right(name: str, opset: int) -> None:
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("the installed onnx is older")
    space = (SPACES | SHARED)[name]
    plan = space.lower(space.smallest(), 10)
    assert_same(plan, 1, batch=3, opset=opset, softmax=opset % 2 == 1)
    model = onnx.load_from_string(to_onnx(plan, build(plan).eval(), opset=opset, batch=3))
    onnx.checker.check_model(model, full_check=True)
    assert [each.version for each in model.opset_import] == [opset]
    assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in inferred.graph.output] == [[3, 10]]


def test_the_default_file_is_for_old_runtimes_too() -> None:
    plan = SPACES["digits"].lower(SPACES["digits"].smallest(), 10)
    model = onnx.load_from_string(to_onnx(plan, build(plan).eval()))
    assert ([each.version for each in model.opset_import], model.ir_version) == ([13], 7)  # onnxruntime 1.10 takes 15 and 8


def test_a_softmax_at_the_end_is_named() -> None:
    plan = SPACES["digits"].lower(SPACES["digits"].smallest(), 10)
    network = randomise(build(plan), 0)
    model = onnx.load_from_string(to_onnx(plan, network, softmax=True, batch=2))
    assert [o.name for o in model.graph.output] == ["probabilities"]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, *plan.input_shape]
    assert_same(plan, 0, softmax=True)
    total = run(model.SerializeToString(), torch.randn(2, *plan.input_shape)).sum(1)
    torch.testing.assert_close(total, torch.ones(2))


def test_an_opset_that_the_installed_onnx_does_not_know() -> None:
    plan = SPACES["digits"].lower(SPACES["digits"].smallest(), 10)
    with pytest.raises(
        DeviceError, match=r"opset 99: the installed onnx .* supports up to \d+: choose a lower one, or update onnx"
    ):
        to_onnx(plan, {}, opset=99)


def test_the_file_is_described_and_deterministic() -> None:
    space = SPACES["digits"]
    plan = space.lower(space.smallest(), 10)
    network = randomise(build(plan), 0)
    data = to_onnx(plan, network, metadata={"arch": space.smallest().to_json()})
    assert data == to_onnx(plan, network.state_dict(), metadata={"arch": space.smallest().to_json()})
    model = onnx.load_from_string(data)
    assert [p.key for p in model.metadata_props] == ["arch"]
    assert [i.name for i in model.graph.input] == ["images"]
    assert [o.name for o in model.graph.output] == ["logits"]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 20, 20]
    assert not {"BatchNormalization", "Mul"} & {node.op_type for node in model.graph.node if "norm" in node.name}


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("stem.first.norm.running_mean", float("nan"), StatisticsError, "recalibrate the network first"),
        ("stem.first.norm.running_var", float("inf"), StatisticsError, r"stem.first.norm.running_var holds values that are not"),
        ("stem.first.norm.running_var", -1.0, StatisticsError, "never negative"),
        ("head.classifier.weight", float("nan"), CheckpointError, "damaged or have diverged"),
    ],
)
def test_broken_numbers_are_refused(key: str, value: float, error: type[Exception], message: str) -> None:
    plan = SPACES["digits"].lower(SPACES["digits"].smallest(), 10)
    state = randomise(build(plan), 0).state_dict()
    state[key].fill_(value)
    with pytest.raises(error, match=message):
        to_onnx(plan, state)


def test_weights_of_another_network_are_refused() -> None:
    space = SPACES["digits"]
    plan, other = (space.lower(arch, 10) for arch in (space.largest(), space.smallest()))
    with pytest.raises(CheckpointError, match=r"has shape .* the plan needs"):
        to_onnx(plan, build(other).eval())
    with pytest.raises(CheckpointError, match=r"stem.first.conv.weight is missing"):
        to_onnx(plan, {})


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    plan = SPACES["digits"].lower(SPACES["digits"].smallest(), 10)
    with pytest.raises(MissingExtraError, match=r"pip install 'onceforall\[onnx\]'"):
        to_onnx(plan, {})
