"""Networks for images of other channels than three: first convolutions as timm makes them, and what is read of a network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import onceforall
from onceforall.errors import ModelError, SpaceError
from onceforall.models import bring
from onceforall.models.channels import for_images, weight_for
from onceforall.spaces import from_json
from onceforall.spaces.graph import graph_of
from small_spaces import SPACES
from tiny_own import OWN, source

timm = pytest.importorskip("timm", reason="the extra timm")


@pytest.mark.parametrize("channels", [1, 4, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_are_timms(channels: int, dtype: torch.dtype) -> None:
    from timm.models import adapt_input_conv

    weight = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(channels)).to(dtype)
    found, expected = weight_for(channels, weight), adapt_input_conv(channels, weight)
    assert found.dtype == expected.dtype == dtype
    assert found.shape == expected.shape == (6, channels, 5, 5)
    close = 1e-3 if dtype == torch.float16 else 1e-6
    torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_a_gray_image_gives_what_it_gave_as_three_equal_channels(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
    images = torch.rand(2, 1, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images.expand(2, 3, 160, 160))
        changed, (note,) = for_images(model, 1, name)
        torch.testing.assert_close(changed(images), expected, rtol=1e-4, atol=1e-4)
    first = model.default_cfg["first_conv"]
    assert note == f"the first convolution ({first}) is made for 1 channel: the sum over its three channels"
    supernet = onceforall.elastic(changed, (160,))
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, supernet.space.largest()), changed(images), rtol=1e-4, atol=1e-4)


def test_several_first_convolutions_are_named_by_default_cfg() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.other, self.a, self.b = nn.Conv2d(7, 7, 1), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5, padding=1)
            self.default_cfg = {"first_conv": ("a", "b")}

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(x) + self.b(x)
            return y

    model, (note,) = for_images(Twice(), 4, "twice")
    assert model(torch.zeros(1, 4, 9, 9)).shape == (1, 4, 7, 7)
    assert note == "the first convolution (a, b) is made for 4 channels: its channels repeated, times 3 / 4"


@pytest.mark.parametrize(
    ("model", "reads"),
    [(nn.Linear(3, 3), "none reads 0 channels"), (nn.Sequential(nn.Conv2d(48, 8, 3)), "0 reads 48 channels"),
     (nn.Sequential(nn.Conv2d(3, 9, 3, groups=3)), "0 reads 3 channels")],
)  # fmt: skip
def test_what_cannot_be_made_for_other_images(model: nn.Module, reads: str) -> None:
    with pytest.raises(ModelError, match=rf"^own cannot be made for images of 1 channel: .* \({reads}\); give a network"):
        for_images(model, 1, "own")
    assert for_images(model, 3, "own") == (model, ())


def test_each_first_convolution_is_named_with_its_channels() -> None:
    model = nn.ModuleDict({"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(7, 4, 3)})
    model.default_cfg = {"first_conv": ("a", "b")}  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"\(a reads 3 channels and b reads 7 channels\)"):
        for_images(model, 1, "own")


def test_bringing_a_network_for_gray_images(tmp_path: Path) -> None:
    found, before = bring(source(tmp_path), channels=1), bring(source(tmp_path))
    assert found.notes == ("the first convolution (stem.0) is made for 1 channel: the sum over its three channels",)
    own, other = (brought.model.state_dict()["stem.0.weight"] for brought in (found, before))
    torch.testing.assert_close(own, other.sum(1, keepdim=True))
    assert found.weights == before.weights
    gray = source(tmp_path, OWN.replace("nn.Conv2d(3, 8", "nn.Conv2d(1, 8"), file="gray.py")
    assert bring(gray, channels=1).notes == bring(gray).notes == ()
    with pytest.raises(ModelError, match=r"gray\.py:Net cannot be made for images of 4 channels"):
        bring(gray, channels=4)


def test_weights_of_a_file_that_are_for_gray_images_or_for_colours(tmp_path: Path) -> None:
    for channels in (1, 3):
        model = timm.create_model("test_resnet", in_chans=channels, num_classes=5)
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        found = bring("timm:test_resnet", tmp_path / "weights.safetensors", channels=1)
        assert found.model.get_submodule("fc").out_features == 5
        own, given = found.model.state_dict(), model.state_dict()
        first = next(name for name in own if own[name].shape[1:2] == (1,))
        torch.testing.assert_close(own.pop(first), given.pop(first).sum(1, keepdim=True))
        assert all(torch.equal(value, given[name]) for name, value in own.items())


class Small(nn.Module):
    """A network for images of any channels, with a convolution of others before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.later = nn.Conv2d(8, 4, 1) if channels == 3 else None
        self.first = nn.Conv2d(channels, 8, 3, 2, 1)
        self.body = nn.Sequential(nn.Conv2d(8, 32, 1), nn.ReLU(), nn.Conv2d(32, 8, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.body(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("said", [True, False])
def test_elastic_reads_a_network_for_any_channels(channels: int, said: bool) -> None:
    model = Small(channels).eval()
    given: dict[str, Any] = {"channels": channels} if said else {}
    supernet = onceforall.elastic(model, (16, 24), importance="none", **given)
    space = supernet.space
    assert space.channels == graph_of(space).channels == channels
    assert from_json(space.to_json()) == space
    assert ('"channels"' in space.to_json()) == (channels != 3), "files of before have none"
    assert (f"images of {channels} channel" in space.summary()) == (channels != 3)
    images = torch.randn(2, channels, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, space.largest()), model(images))
        assert supernet.at(space.smallest(24)).eval()(images).shape == (2, 5)
    assert space.lower(space.smallest()).input_shape == (channels, 16, 16)


def test_channels_that_a_network_does_not_take() -> None:
    with pytest.raises(ModelError, match=r"images \(n, 3, 24, 24\)"):
        onceforall.elastic(Small(1), (24,), channels=3)
    with pytest.raises(ModelError, match=r"images \(n, 1, 24, 24\)"):
        onceforall.elastic(Small(4), (24,), channels=1)
    with pytest.raises(SpaceError, match="channels is 0: it must be a whole number from 1 to 1024"):
        onceforall.elastic(Small(1), (24,), channels=0)
    supernet = onceforall.elastic(Small(1), (24,))
    with pytest.raises(ModelError, match=r"give batches \(n, 1, r, r\)"):
        onceforall.elastic(Small(1), (24,), importance="activation", images=torch.zeros(2, 3, 24, 24))
    assert supernet.space.channels == 1


@pytest.mark.parametrize("name", [name for name in SPACES if SPACES[name].family in onceforall.spaces.FAMILIES])
def test_families_for_other_channels(name: str) -> None:
    """The same networks but for the first convolution; of three channels with the same text as before."""
    before = SPACES[name]
    arguments = {key: value for key, value in before.arguments.items() if key != "channels"}
    one, three = (onceforall.space(before.family, **arguments, channels=channels) for channels in (1, 3))
    assert three.to_json() == onceforall.space(before.family, **arguments).to_json()
    assert "channels" not in three.to_json()
    assert from_json(one.to_json()) == one
    assert (one.channels, three.channels) == (1, 3)
    arch = one.largest()
    gray, colours = one.lower(arch, 10), three.lower(arch, 10)
    assert gray.input_shape == (1, arch.resolution, arch.resolution)
    first = colours.segments[0].ops[0]
    assert colours.macs - gray.macs == first.macs * 2 // 3
    assert gray.segments[1:] == colours.segments[1:]
    for wrong in (0, 2.0, True, "3"):
        with pytest.raises(SpaceError, match=r"channels is .*: it must be a whole number from 1 to 1024"):
            onceforall.space(before.family, **arguments, channels=wrong)
