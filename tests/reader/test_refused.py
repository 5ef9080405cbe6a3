"""Models that cannot be read, and requests that make no sense: one clear line each."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import onceforall
from onceforall.errors import ArchError, ModelError, SpaceError
from own_networks import conv, stirred


class Two(nn.Module):
    """Two images."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Undecided(nn.Module):
    """What it does depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y if y.mean() > 0 else -y


class Counts(nn.Module):
    """No tensor."""

    def forward(self, x: Tensor) -> int:
        return x.shape[0]


class Fixed(nn.Module):
    """For 32 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))  # type: ignore[no-any-return]


class Several(nn.Module):
    """More layers for larger images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[-1] // 16):
            x = self.layer(x)
        return x.mean((2, 3))


def scripted() -> nn.Module:
    """Of a way that torch gives up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.ReLU())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Two(), r"torch.export cannot read Two with images of 32 pixels.*one batch of images \(n, 3, 32, 32\)"),
        (Undecided(), r"\(Undecided, line \d+ of forward in test_refused\.py\): its control flow depends on pixel values"),
        (Counts(), "the model returns nothing that it computes from the images"),
        (scripted(), "TorchScript"),
        (lambda x: x, "elastic takes a torch.nn.Module, not a function"),
    ],
    ids=["two inputs", "undecided", "no tensor", "scripted", "no module"],
)
def test_refused(model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        onceforall.elastic(model, (32,))
    assert "\n" not in str(caught.value)


def test_another_size() -> None:
    with pytest.raises(ModelError, match=r"cannot read Fixed with images of 48 pixels \(Fixed, line \d+ of forward in test_ref"):
        onceforall.elastic(Fixed(), (32, 48))


def test_another_network_at_another_size() -> None:
    with pytest.raises(ModelError, match="the model runs other operations at 32 pixels than at 64"):
        onceforall.elastic(Several(), (32, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (0.5, 1.5)}, "widths holds 1.5"),
        ({"widths": (0, 1)}, "widths holds 0"),
        ({"depths": (0,)}, "depths holds 0"),
        ({"depths": (99,)}, "depths holds 99: the longest stage has"),
        ({"widths": 0.5}, "widths is 0.5: it must be a sequence"),
        ({"stage_widths": True}, "stage_widths is True: it must be a sequence"),
        ({"kernels": (4,)}, "kernels holds 4"),
        ({"widths": "half"}, "widths is 'half'"),
        ({"resolutions": ()}, "resolutions"),
        ({"resolutions": (32.5,)}, "resolutions"),
        ({"resolutions": 32}, "resolutions"),
        ({"resolutions": (-32,)}, "resolutions"),
    ],
)
def test_values_that_make_no_space(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        onceforall.elastic(stirred("mobile"), **{"resolutions": (32,), **arguments})


def test_switched_off() -> None:
    space = onceforall.elastic(stirred("mobile"), (32,), widths=(), depths=(), kernels=()).space
    assert space.count() == 1
    assert space.largest() == space.smallest()
    space = onceforall.elastic(stirred("vit"), (32,), widths=(), heads=(0.5,), depths=(2,)).space
    assert [stage.depths for stage in space.stages] == [(2, 3)]
    assert [stage.expand_ratios for stage in space.stages] == [(1,)]
    assert [stage.heads for stage in space.stages] == [(0.5, 1)]


def test_several_resolutions() -> None:
    model = stirred("unet").double()
    supernet = onceforall.elastic(model, (64, 32))
    space = supernet.space
    assert space.resolutions == (32, 64)
    for pixels in space.resolutions:
        images = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
        with torch.no_grad():
            expected = model(images)
            torch.testing.assert_close(supernet(images, space.largest(pixels)), expected, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(supernet.extract(space.largest(pixels))(images), expected, rtol=1e-9, atol=1e-9)


def test_the_model_stays_as_it_is() -> None:
    model = stirred("mobile").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    supernet = onceforall.elastic(model, (32,))
    assert model.training
    assert supernet.training
    with torch.no_grad():
        supernet(torch.randn(2, 3, 32, 32), supernet.space.largest())
        for parameter in supernet.parameters():
            parameter.zero_()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_half_precision_becomes_single() -> None:
    model = stirred("mobile").half()
    supernet = onceforall.elastic(model, (32,))
    assert {parameter.dtype for parameter in supernet.parameters()} == {torch.float32}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, supernet.space.largest()), model.float()(images), rtol=1e-3, atol=1e-3)


def test_names_that_a_supernet_needs() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.space, self.at, self.norms = conv(3, 16), conv(16, 24), nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norms(self.at(self.space(x)).mean((2, 3)))  # type: ignore[no-any-return]

    model = Named().eval()
    supernet = onceforall.elastic(model, (32,))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, supernet.space.largest()), model(images))
    assert "norms_.weight" in supernet.state_dict()


def test_overwritten_views() -> None:
    """A slice of a tensor is written to: the value is what was written."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = conv(3, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x).clone()
            y[:, :4] *= 2
            y[:, :, 0] = 0
            return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]

    model = Writes().eval().double()
    supernet = onceforall.elastic(model, (16,))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, supernet.space.largest()), model(images), rtol=1e-9, atol=1e-9)


def test_torch_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    for model in (Undecided(), Fixed()):
        with pytest.raises(ModelError):
            onceforall.elastic(model.eval(), (48,))
    assert capfd.readouterr() == ("", "")


def test_computed_weights_are_said() -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 16, 3)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    text = onceforall.elastic(model.eval(), (32,), widths=(), depths=()).space.summary()
    assert text.startswith("1 network of 388.9 k MACs, 532 parameters: ")
    assert "0: its weight is computed by _weight_norm in" in text
    assert text.endswith("remove it first (torch.nn.utils.parametrize.remove_parametrizations)")


@pytest.mark.parametrize(
    ("images", "message"), [([], "images has no batch"), ([torch.full((2, 3, 32, 32), torch.nan)], "not finite")]
)
def test_images_that_rank_nothing(images: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        onceforall.elastic(stirred("plain"), (32,), images=images)


def test_one_batch_is_enough() -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = (onceforall.elastic(stirred("plain"), (32,), images=given).state_dict() for given in (x, [x]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_than_architectures_and_weights() -> None:
    supernet = onceforall.elastic(stirred("plain"), (32,))
    with pytest.raises(ArchError, match="'largest' is not an Arch"):
        supernet.extract("largest")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="meta device"):
        onceforall.elastic(nn.Sequential(nn.Conv2d(3, 4, 3, device="meta")), (32,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_model_on_a_gpu_stays_there() -> None:
    model = stirred("vit").cuda()
    supernet = onceforall.elastic(model, (32,))
    assert {parameter.device.type for parameter in supernet.parameters()} == {"cuda"}
    images = torch.randn(2, 3, 32, 32, device="cuda")
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(supernet(images, supernet.space.largest()), expected, rtol=1e-2, atol=1e-2)
        assert supernet.extract(supernet.space.smallest())(images).is_cuda
