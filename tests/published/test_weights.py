"""Weights of the original: every form they come in, there and back, and whatever else a checkpoint may hold."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import onceforall
from onceforall import Space, Supernet, published
from onceforall.errors import CheckpointError, StatisticsError
from onceforall.published.names import original_names, plain_name
from onceforall.published.weights import matched
from small_spaces import SPACES

NAME = "ofa_proxyless_d234_e346_k357_w1_3"
CLASSES = 10
State = dict[str, Tensor]


def drawn(space: Space, num_classes: int, seed: int = 0) -> State:
    """Weights and statistics, all different, under the original's names."""
    supernet, generator = Supernet(space, num_classes), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + name.endswith("running_var"))
    return published.original_state_dict(supernet)


def old(name: str) -> str:
    return (
        name.replace(".conv.inverted_bottleneck.", ".mobile_inverted_conv.inverted_bottleneck.")
        .replace(".conv.depth_conv.", ".mobile_inverted_conv.depth_conv.")
        .replace(".conv.point_linear.", ".mobile_inverted_conv.point_linear.")
    )


def static(name: str) -> str:
    return name.replace(".conv.conv.", ".conv.").replace(".bn.bn.", ".bn.").replace(".linear.linear.", ".linear.")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "new": lambda name: name,
    "old": old,
    "static": static,
    "old static": lambda name: static(old(name)),
    "module": lambda name: f"module.{name}",
    "old module": lambda name: f"module.{old(name)}",
}


def respelt(state: State, spelling: str) -> State:
    return {SPELLINGS[spelling](name): tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(published.published_space(NAME), CLASSES)


@pytest.fixture
def logits(state: State) -> Callable[[Supernet], Tensor]:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def run(supernet: Supernet) -> Tensor:
        with torch.no_grad():
            return supernet(images, supernet.space.smallest())

    return run


def same(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].is_contiguous()
        assert torch.equal(found[name], tensor), name


# -- the forms that weights come in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bare", "nested", "legacy", "safetensors"])
def test_every_file(state: State, form: str, tmp_path: Path) -> None:
    path = tmp_path / "ofa_net"
    if form == "safetensors":
        save_file(state, path)
    else:
        content = {"state_dict": state, "epoch": 3} if form == "nested" else state
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    before = torch.get_rng_state()
    supernet = published.load_supernet(path if form == "bare" else str(path), NAME)
    assert torch.equal(torch.get_rng_state(), before), "loading draws no random numbers"
    assert supernet.num_classes == CLASSES
    assert supernet.space == published.published_space(NAME)
    assert not supernet.training
    assert all(parameter.requires_grad for parameter in supernet.parameters())
    same(published.original_state_dict(supernet), state)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling(state: State, spelling: str) -> None:
    given_state = respelt(state, spelling)
    assert (given_state == state) == (spelling == "new")
    same(published.original_state_dict(published.load_supernet(given_state, NAME)), state)


def test_the_original_s_file_and_back(state: State, tmp_path: Path) -> None:
    supernet = published.load_supernet(state, NAME)
    published.save_original(supernet, tmp_path / "back.pth")
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert content.keys() == {"state_dict"}
    same(content["state_dict"], state)
    same(published.original_state_dict(published.load_supernet(content, NAME)), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(state: State, dtype: torch.dtype) -> None:
    given_state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    wanted = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in given_state.items()}
    same(published.original_state_dict(published.load_supernet(given_state, NAME)), wanted)


def test_parameters_and_copies(state: State, logits: Callable[[Supernet], Tensor]) -> None:
    given_state: State = {name: torch.nn.Parameter(t.clone()) if t.is_floating_point() else t for name, t in state.items()}
    supernet = published.load_supernet(given_state, NAME)
    before = logits(supernet)
    with torch.no_grad():
        given_state["first_conv.conv.weight"].zero_()
        published.original_state_dict(supernet)["first_conv.conv.weight"].zero_()
    assert torch.equal(logits(supernet), before)
    assert all(parameter.is_leaf for parameter in supernet.parameters())


@pytest.mark.parametrize("num_classes", [1, 37])
def test_other_numbers_of_classes(state: State, num_classes: int, logits: Callable[[Supernet], Tensor]) -> None:
    rows = {"classifier.linear.weight": torch.ones(num_classes, 1664), "classifier.linear.bias": torch.arange(num_classes) * 1.0}
    supernet = published.load_supernet({**state, **rows}, NAME)
    assert supernet.num_classes == num_classes
    found = logits(supernet)
    assert found.shape == (1, num_classes)
    torch.testing.assert_close(found[0] - found[0, 0], torch.arange(num_classes) * 1.0)


def test_counts_of_batches_may_be_left_out(state: State) -> None:
    bare = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    same(published.original_state_dict(published.load_supernet(bare, NAME)), state)


# -- names of networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "arguments"),
    [
        ("ofa_mbv3_d234_e346_k357_w1.0", "mobilenet_v3", {"width": 1.0}),
        ("ofa_mbv3_d234_e346_k357_w1_0", "mobilenet_v3", {"width": 1.0}),
        ("ofa_supernet_mbv3_w10", "mobilenet_v3", {"width": 1.0}),
        ("ofa_mbv3_d234_e346_k357_w1.2", "mobilenet_v3", {"width": 1.2}),
        ("ofa_supernet_mbv3_w12", "mobilenet_v3", {"width": 1.2}),
        ("ofa_proxyless_d234_e346_k357_w1.3", "proxyless", {"width": 1.3}),
        ("ofa_supernet_proxyless", "proxyless", {"width": 1.3}),
        ("ofa_resnet50", "resnet50d", {}),
        ("ofa_supernet_resnet50", "resnet50d", {}),
    ],
)
def test_names(name: str, family: str, arguments: dict[str, Any]) -> None:
    assert published.published_space(name) == onceforall.space(family, **arguments)


@pytest.mark.parametrize("name", ["ofa_mbv3", "", "resnet50d", "ofa_mbv3_d234_e346_k357_w1.1", "note10\n"])
def test_unknown_names(state: State, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"unknown network '.*': choose one of ofa_mbv3_d234_e346_k357_w1_0, ") as caught:
        published.load_supernet(state, name)
    assert "\n" not in str(caught.value)


# -- weights that do not fit -------------------------------------------------------------------------------------------

BIAS, STEM = "blocks.3.conv.depth_conv.bn.bn.bias", "first_conv.conv.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({STEM: None}, f"missing in the checkpoint: '{STEM}'; it is not of {NAME} \\(proxyless\\)"),
        ({STEM: None, BIAS: None}, f"missing in the checkpoint: '{STEM}' and 1 more; it is not of"),
        ({"head.bias": torch.zeros(3)}, rf"in the checkpoint, but not in {NAME} \(proxyless\): 'head.bias'; it is of another"),
        ({"a\nb": torch.zeros(3), "c": torch.zeros(3)}, r"'a\\nb' and 1 more; it is of another network"),
        ({3: torch.zeros(3)}, "'3'; it is of another network"),
        ({STEM: torch.zeros(40, 3, 3, 2)}, rf"{STEM} in the checkpoint has shape \(40, 3, 3, 2\), not \(40, 3, 3, 3\)"),
        ({STEM: torch.zeros(40, 27)}, r"shape \(40, 27\)"),
        ({STEM: torch.full((40, 3, 3, 3), torch.nan)}, f"{STEM} in the checkpoint holds values that are not finite"),
        ({STEM: torch.full((40, 3, 3, 3), 1e300, dtype=torch.float64)}, "values that are not finite"),
        ({STEM: torch.zeros(40, 3, 3, 3, dtype=torch.int8)}, f"{STEM} in the checkpoint is torch.int8: a dense tensor of floating"),
        ({STEM: torch.zeros(40, 3, 3, 3, dtype=torch.complex64)}, "is torch.complex64"),
        ({STEM: torch.zeros(40, 3, 3, 3).to_sparse()}, "a dense tensor of floating-point numbers is needed"),
        ({STEM: torch.empty(40, 3, 3, 3, device="meta")}, "a dense tensor of floating-point numbers is needed"),
        ({STEM: [[1.0]]}, f"{STEM} in the checkpoint is list: a dense tensor"),
        ({STEM.replace("conv.w", "conv.conv.w"): torch.zeros(40, 3, 3, 3)}, f"two names in the checkpoint mean '{STEM}'"),
        ({f"module.{STEM}": torch.zeros(40, 3, 3, 3)}, f"two names in the checkpoint mean '{STEM}': it holds more than one"),
        ({"classifier.linear.weight": None}, r"the checkpoint has no classifier.linear.weight \(classes, features\)"),
        ({"classifier.linear.weight": torch.zeros(0, 1664)}, "the checkpoint has no classifier.linear.weight"),
        ({"classifier.linear.weight": torch.zeros(1664)}, "the checkpoint has no classifier.linear.weight"),
        ({"classifier.linear.weight": torch.zeros(1, 1).expand(10**12, 1)}, r"has shape \(.*\), not \(1000000000000"),
        (
            {"classifier.linear.bias": torch.zeros(11)},
            r"classifier.linear.bias in the checkpoint has shape \(11,\), not \(10,\)",
        ),
    ],
)
def test_weights_that_do_not_fit(state: State, change: dict[Any, Any], message: str) -> None:
    changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message) as caught:
        published.load_supernet(changed, NAME)
    assert "\n" not in str(caught.value)


def test_the_wrong_network(state: State) -> None:
    for name in set(published.NAMES) - {NAME}:
        with pytest.raises(CheckpointError, match=rf"missing in the checkpoint: .* and \d+ more; it is not of {name}|has shape"):
            published.load_supernet(state, name)
    with torch.device("meta"):
        layout = Supernet(onceforall.space("resnet50d"), 5)
    names = original_names("resnet50d", layout.space.lower(layout.space.largest(), 5), layout.state_dict())
    shapes = {name: value.shape for name, value in layout.state_dict().items()}
    resnet = {theirs: torch.zeros(()).expand(shapes[ours]) for ours, theirs in names.items()}
    with pytest.raises(
        CheckpointError, match=r"missing in the checkpoint: 'first_conv.conv.weight' and \d+ more; it is not of ofa_mbv3"
    ):
        published.load_supernet(resnet, "ofa_mbv3_d234_e346_k357_w1.0")


@pytest.mark.parametrize("nothing", [{}, {"state_dict": {}}, {"state_dict": torch.zeros(2)}, {0: 0}])
def test_no_weights_at_all(nothing: dict[Any, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"the checkpoint has no classifier\.linear\.weight"):
        published.load_supernet(nothing, NAME)


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_files_that_are_none(state: State, tmp_path: Path) -> None:
    path, target = tmp_path / "weights.pth", tmp_path / "attacked"
    with pytest.raises(CheckpointError, match=r"weights\.pth: no such file or folder"):
        published.load_supernet(path, NAME)
    torch.save({"state_dict": {**state, "x": Trap(target)}}, path)
    with pytest.raises(CheckpointError, match="refused because it could run code"):
        published.load_supernet(path, NAME)
    assert not target.exists()
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="damaged"):
        published.load_supernet(path, NAME)


def test_a_trained_supernet_has_no_statistics(state: State, tmp_path: Path) -> None:
    supernet = published.load_supernet(state, NAME)
    supernet.forget_statistics()
    with pytest.raises(StatisticsError, match="the running statistics were dropped in training, measure them first"):
        published.original_state_dict(supernet)
    with pytest.raises(StatisticsError):
        published.save_original(supernet, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_diverged_weights(state: State) -> None:
    supernet = published.load_supernet(state, NAME)
    with torch.no_grad():
        supernet.get_parameter("head.classifier.bias")[3] = torch.inf
    with pytest.raises(CheckpointError, match=r"head\.classifier\.bias is not finite: the weights have diverged"):
        published.original_state_dict(supernet)


# -- every family, and damage of every kind, on small networks ---------------------------------------------------------


def layout(space: Space) -> tuple[Supernet, dict[str, str]]:
    supernet = Supernet(space, 3)
    return supernet, original_names(space.family, space.lower(space.largest(), 3), supernet.state_dict())


def test_small_spaces_go_there_and_back(small_space: Space) -> None:
    weights = drawn(small_space, 3)
    supernet, names = layout(small_space)
    assert len(set(names.values())) == len(names) == len(supernet.state_dict())
    assert len({plain_name(name) for name in names.values()}) == len(names), "no two tensors share a spelling"
    for spelling in SPELLINGS:
        supernet.load_state_dict(matched(supernet.state_dict(), names, respelt(weights, spelling), what="a test"))
        same(published.original_state_dict(supernet), weights)


SMALL = {name: (*layout(SPACES[name]), drawn(SPACES[name], 3)) for name in ("strided", "proxyless", "resnet-small-images")}
pieces = st.sampled_from(["conv", "bn", "weight", "module", "blocks", "0", "1", "99", "num_batches_tracked", ".", "", "é\n"])
names_drawn = st.lists(pieces, max_size=5).map(".".join) | st.text(max_size=10) | st.integers() | st.none() | st.binary(max_size=3)
values_drawn = st.sampled_from(
    [
        None, 3, "x", [1.0], torch.tensor(1.0), torch.zeros(0), torch.zeros(3, 3), torch.full((8,), torch.nan), torch.tensor(3),
        torch.zeros(8, dtype=torch.bool), torch.zeros(2, 2).to_sparse(), torch.zeros(8, device="meta"),
        torch.zeros(1).expand(10**13),
    ]
)  # fmt: skip


@settings(max_examples=150)
@given(st.sampled_from(sorted(SMALL)), st.data())
def test_damaged_weights(which: str, data: st.DataObject) -> None:
    supernet, names, weights = SMALL[which]
    damaged: dict[Any, Any] = dict(weights)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(weights)))
        match data.draw(st.sampled_from(["drop", "rename", "add", "change", "shape", "nan"])):
            case "drop":
                damaged.pop(name, None)
            case "rename":
                damaged[data.draw(names_drawn)] = damaged.pop(name, None)
            case "add":
                damaged[data.draw(names_drawn)] = data.draw(values_drawn)
            case "change":
                damaged[name] = data.draw(values_drawn)
            case "shape":
                shape = data.draw(st.lists(st.integers(0, 5), max_size=4))
                damaged[name] = torch.zeros(shape)
            case "nan":
                damaged[name] = weights[name] * torch.nan
    message = ""
    try:
        found = matched(supernet.state_dict(), names, damaged, what="a test")
    except CheckpointError as error:
        message = str(error)
    else:  # only numbers of batches were damaged, which nothing reads
        assert all(torch.equal(found[ours], weights[theirs]) for ours, theirs in names.items())
    assert "\n" not in message
    assert len(message) < 300
