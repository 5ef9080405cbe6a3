"""Branches with stochastic depth lose whole images in a supernet's train mode, and nothing else changes."""

import pytest
import torch
from torch import Tensor, nn

from onceforall import Supernet
from onceforall.spaces import from_json
from onceforall.supernets.conversion import elastic

RATE = 0.4


class DropPath(nn.Module):
    """By its name and its rate alone it is known; in eval mode it is the identity."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop_prob = rate

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training or self.drop_prob == 0
        return x


class StochasticDepth(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.p = rate

    def forward(self, x: Tensor) -> Tensor:
        return x


class Block(nn.Module):
    def __init__(self, drop: nn.Module, *, branch_first: bool) -> None:
        super().__init__()
        self.inside, self.out, self.drop, self.branch_first = nn.Conv2d(4, 16, 1), nn.Conv2d(16, 4, 1), drop, branch_first

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.out(torch.relu(self.inside(x))))
        return y + x if self.branch_first else x + y


class Network(nn.Module):
    def __init__(self, drop: nn.Module, *, branch_first: bool) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), Block(drop, branch_first=branch_first), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("branch_first", [True, False])
@pytest.mark.parametrize("kind", [DropPath, StochasticDepth])
def test_images_lose_the_branch_at_the_rate(kind: type[nn.Module], branch_first: bool) -> None:
    model = Network(kind(RATE), branch_first=branch_first).eval()
    made = elastic(model, (8,), importance="none")
    supernet = Supernet(from_json(made.space.to_json()))
    supernet.load_state_dict(made.state_dict())
    images, arch = torch.randn(1000, 3, 8, 8, generator=torch.Generator().manual_seed(0)), supernet.space.largest()
    torch.testing.assert_close(supernet.eval()(images, arch), model(images))
    x = model.stem(images)
    y = model.block.out(torch.relu(model.block.inside(x)))
    without, with_more = (model.head(value.mean((2, 3))) for value in (x, x + y / (1 - RATE)))
    torch.manual_seed(0)
    found = supernet.train()(images, arch)
    lost, kept = ((found - other).abs().amax(1) < 1e-4 for other in (without, with_more))
    assert (lost ^ kept).all()
    assert abs(float(lost.float().mean()) - RATE) < 0.06
    narrow = supernet.space.smallest()
    assert not torch.equal(supernet(images, narrow), supernet(images, narrow))
    network = supernet.extract(arch).train()  # alone it is trained without
    torch.testing.assert_close(network(images), model(images))
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in supernet.parameters())


def test_a_rate_of_zero_changes_nothing() -> None:
    supernet = elastic(Network(DropPath(0.0), branch_first=False), (8,)).train()
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(supernet(images, supernet.space.smallest()), supernet(images, supernet.space.smallest()))
