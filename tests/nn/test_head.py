"""A classifier fitted on the features of a network: as scikit-learn fits it, and nothing else of the network changes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

import onceforall
from onceforall import Supernet
from onceforall.supernets import head
from onceforall.supernets.head import fit_classifier
from own_networks import stirred
from small_spaces import SPACES

CLASSES = 3


class Net(nn.Module):
    def __init__(self, last: nn.Module, *, flat: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool, self.last, self.flat = nn.AdaptiveAvgPool2d(1), last, flat

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        return self.last(x.flatten(1)) if self.flat else self.last(x).flatten(1)


def batches(n: int = 6, size: int = 32, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Images whose colour is their class, nearly."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        labels = torch.randint(CLASSES, (20,), generator=generator)
        images = torch.randn(20, 3, size, size, generator=generator)
        images[torch.arange(20), labels] += 0.7
        made.append((images, labels))
    return made


def accuracy(supernet: Supernet, given: list[tuple[Tensor, Tensor]]) -> float:
    network = supernet.extract(supernet.space.largest()).eval()
    with torch.no_grad():
        return float(np.mean([float((network(x).argmax(1) == y).float().mean()) for x, y in given]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("penalty", [1e-2, 1.0])
def test_the_regression_is_scikit_learns(penalty: float, bias: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((150, 12)), rng.integers(CLASSES, size=150)
    x[np.arange(150), y] += 1
    mine, constant = head._fit(torch.tensor(x), torch.tensor(y), CLASSES, penalty, bias=bias, loss_of=functional.cross_entropy)
    theirs = LogisticRegression(C=12 / (2 * penalty * len(x)), fit_intercept=bias, tol=1e-10, max_iter=10_000).fit(x, y)
    logits = torch.tensor(x) @ mine.T + constant
    np.testing.assert_allclose(logits.softmax(1).numpy(), theirs.predict_proba(x), atol=2e-4)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        lambda: Net(nn.Linear(16, CLASSES)),
        lambda: Net(nn.Linear(16, CLASSES, bias=False)),
        lambda: Net(nn.Sequential(nn.Dropout(0.2), nn.Conv2d(16, CLASSES, 1)), flat=False),
        lambda: Net(nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, CLASSES))),
    ],
)
def test_only_the_classifier_changes(net: object, calibrated: bool) -> None:
    torch.manual_seed(0)
    supernet = onceforall.elastic(net().eval(), (32,))  # type: ignore[operator]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    assert fit_classifier(supernet, batches(), [x for x, _ in batches()] if calibrated else None)
    changed = {name for name, tensor in supernet.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert {name.rpartition(".")[0] for name in changed} <= {"last", "last.1", "last.2"}
    assert len({name.rpartition(".")[0] for name in changed}) == 1
    if not calibrated:
        assert accuracy(supernet, batches(seed=1)) > 0.9


def test_our_own_families_too() -> None:
    torch.manual_seed(0)
    space = SPACES["single"]
    supernet = Supernet(space, CLASSES).eval()
    size = space.resolutions[-1]
    calibration = [x for x, _ in batches(size=size)]
    assert fit_classifier(supernet, batches(size=size), calibration)


@pytest.mark.parametrize("name", ["two-heads", "unet"])
def test_other_ends_are_left_alone(name: str) -> None:
    supernet = onceforall.elastic(stirred(name).eval(), (32,))
    before = {key: tensor.clone() for key, tensor in supernet.state_dict().items()}
    assert not fit_classifier(supernet, batches())
    assert all(torch.equal(tensor, before[key]) for key, tensor in supernet.state_dict().items())


def test_few_images_get_the_strongest_penalty() -> None:
    """Fewer than ten cannot tell which penalty is best."""
    torch.manual_seed(0)
    supernet = onceforall.elastic(Net(nn.Linear(16, CLASSES)).eval(), (32,))
    images, labels = batches(1)[0]
    assert fit_classifier(supernet, [(images[:6], labels[:6])])
    assert all(tensor.isfinite().all() for tensor in supernet.state_dict().values())
