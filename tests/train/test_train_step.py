"""One step's gradient is the sum of its sub-networks' own: against finite differences of extracted networks in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onceforall
from onceforall import Arch, Supernet
from onceforall.train import Recipe, train_step

SPACE = onceforall.space(
    "mobilenet_v3", width=0.1, resolutions=(16,), depths=(1, 2), kernels=(3, 5), expand_ratios=(2, 3), strides=(1, 1, 2, 1, 1, 1, 1)
)
RECIPE = Recipe(batch_size=6, momentum=0.0, weight_decay=0.0, label_smoothing=0.2, dropout=0.0, distil_weight=0.7)
CLASSES = 5


@pytest.fixture
def supernet() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Supernet(SPACE, CLASSES).double()
        for name, parameter in net.named_parameters():
            if name.endswith("matrix"):
                parameter.data += 0.1 * torch.randn_like(parameter)
    return net.train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64), torch.arange(6) % CLASSES


def teacher() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Supernet(SPACE, CLASSES).double().extract(SPACE.largest()).train()


def reference_loss(logits: Tensor, labels: Tensor, recipe: Recipe, target: Tensor | None) -> float:
    """From the definitions: cross-entropy with smoothed labels, plus cross-entropy with the teacher's softmax."""
    total = 0.0
    for i, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        log_sum = torch.tensor(row, dtype=torch.float64).exp().sum().log().item()
        for c, value in enumerate(row):
            wanted = recipe.label_smoothing / CLASSES + (1 - recipe.label_smoothing) * (c == label)
            if target is not None:
                wanted += recipe.distil_weight * target[i, c].item()
            total -= wanted * (value - log_sum)
    return total / len(labels)


def summed_loss(supernet: Supernet, archs: list[Arch], recipe: Recipe, guide: nn.Module | None) -> float:
    """Over sub-networks that were taken out one by one."""
    images, labels = batch()
    with torch.no_grad():
        target = None if guide is None else guide(images).softmax(1)
        return sum(reference_loss(supernet.extract(arch)(images), labels, recipe, target) for arch in archs)


def step(supernet: Supernet, archs: list[Arch], recipe: Recipe, guide: nn.Module | None) -> float:
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    return float(train_step(supernet, archs, *batch(), optimizer, recipe, guide))


def some_archs() -> list[Arch]:
    rng = np.random.default_rng(3)
    return [SPACE.smallest(), SPACE.sample(rng), SPACE.sample(rng)]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_gradient(supernet: Supernet, guided: bool, count: int) -> None:
    archs, guide = some_archs()[:count], teacher() if guided else None
    mean = step(supernet, archs, RECIPE, guide)
    assert mean == pytest.approx(summed_loss(supernet, archs, RECIPE, guide) / count, rel=1e-6)

    generator = torch.Generator().manual_seed(4)
    parameters = list(supernet.parameters())
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
        slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True) if p.grad is not None)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p += sign * 1e-9 * d
                ends.append(summed_loss(supernet, archs, RECIPE, guide))
                for p, d in zip(parameters, direction, strict=True):
                    p -= sign * 1e-9 * d
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-9, rel=1e-3, abs=1e-5)  # so small because of the kinks of relu


def test_gradients_are_added_up(supernet: Supernet) -> None:
    archs, guide = some_archs(), teacher()
    sums: dict[str, Tensor] = {}
    for arch in archs:
        step(supernet, [arch], RECIPE, guide)
        for name, parameter in supernet.named_parameters():
            if parameter.grad is not None:
                sums[name] = sums.get(name, torch.zeros_like(parameter)) + parameter.grad
    step(supernet, archs, RECIPE, guide)
    found = {name: parameter.grad for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    assert set(found) == set(sums)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, sums[name], rtol=1e-10, atol=1e-12)


def test_only_active_weights_have_gradients(supernet: Supernet) -> None:
    smallest = SPACE.smallest()
    step(supernet, [smallest], RECIPE, None)
    plan = SPACE.lower(smallest, CLASSES)
    active = {f"{segment.name}.{op.name}" for segment in plan.segments for op in segment.ops}
    shapes = {name: value.shape for name, value in supernet.extract(smallest).named_parameters()}
    for name, parameter in supernet.named_parameters():
        if name.rsplit(".", 1)[0] not in active:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        if name in shapes and not name.endswith("depthwise.conv.weight"):
            outside = parameter.grad.clone()
            outside[tuple(slice(n) for n in shapes[name])] = 0
            assert not outside.any(), name
        assert parameter.grad.any() or "norm" in name, name


def test_one_step_changes_nothing_but_active_weights(supernet: Supernet) -> None:
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
    train_step(supernet, [SPACE.smallest()], *batch(), optimizer, RECIPE, None)
    changed = {name for name, value in supernet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.split(".")[2] == "1" for name in changed if name.startswith("stages."))  # second blocks are absent
    assert not any("running" in name for name in changed)


def test_clip(supernet: Supernet) -> None:
    step(supernet, some_archs(), replace(RECIPE, clip=0.01), None)
    norms = [float(p.grad.norm()) for p in supernet.parameters() if p.grad is not None]
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(0.01, rel=1e-3)


def test_dropout_is_of_torchs_own_generator(supernet: Supernet) -> None:
    losses = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            losses.append(step(supernet, [SPACE.smallest()], replace(RECIPE, dropout=0.5), None))
    assert losses[0] == losses[1] != losses[2]
