"""One step's gradient is the sum of its sub-networks' own: against finite differences of extracted networks in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onceforall
from onceforall import Arch, Supernet
from onceforall.tasks.task import class_log_odds, class_weights, label_log_odds, label_weights
from onceforall.train import Phase, Recipe, Settings, train_step

SPACE = onceforall.space(
    "mobilenet_v3", width=0.1, resolutions=(16,), depths=(1, 2), kernels=(3, 5), expand_ratios=(2, 3), strides=(1, 1, 2, 1, 1, 1, 1)
)
RECIPE = Recipe(batch_size=6, momentum=0.0, weight_decay=0.0, label_smoothing=0.2, dropout=0.0, distil_weight=0.7)
CLASSES = 5
ALONE = Phase("test", {}, 10, 0, 0.1, distil=False)


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
    return float(train_step(supernet, archs, batch(), optimizer, recipe, ALONE, guide))


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
    train_step(supernet, [SPACE.smallest()], batch(), optimizer, RECIPE, ALONE)
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


# -- in place, labels for the largest only, divergences, factors -----------------------------------------------------------


def static_logits(supernet: Supernet, arch: Arch, images: Tensor) -> tuple[nn.Module, Tensor]:
    network = supernet.extract(arch)
    return network, network(images)


def smoothed(logits: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    log_q = logits - logits.exp().sum(1, keepdim=True).log()
    wanted = torch.full_like(log_q, recipe.label_smoothing / CLASSES)
    wanted[torch.arange(len(labels)), labels] += 1 - recipe.label_smoothing
    return -(wanted * log_q).sum(1).mean()


def distance(divergence: str, logits: Tensor, target: Tensor, sides: set[bool]) -> tuple[Tensor, Tensor]:
    """What is differentiated, and what is reported, written once more from the formulas; notes which of the two was larger."""
    log_q, p = logits - logits.exp().sum(1, keepdim=True).log(), target.softmax(1)
    if divergence == "cross_entropy":
        loss = -(p * log_q).sum(1).mean()
        return loss, loss.detach()
    q = log_q.exp().detach()
    w = torch.minimum(q / p, torch.tensor(5.0, dtype=q.dtype))
    minus, plus = (q * (w - 1)).sum(1) / 2, (p * (p / q).log()).sum(1)
    sides.update((minus > plus).tolist())
    surrogates = torch.where(minus > plus, (q * (w - 0.5) * log_q).sum(1), -(p * log_q).sum(1))
    return surrogates.mean(), torch.maximum(minus, plus).mean()


@pytest.mark.parametrize("divergence", ["cross_entropy", "adaptive_alpha"])
@pytest.mark.parametrize("guide", ["in place", "teacher"])
@pytest.mark.parametrize("only_largest", [False, True])
def test_sandwich_step(supernet: Supernet, divergence: str, guide: str, only_largest: bool) -> None:
    """Gradients of extracted networks, each by torch's own backward, added up by hand."""
    archs = [SPACE.largest(), *some_archs()]
    images, labels = batch()
    with torch.no_grad():  # far from uniform, so that both divergences occur
        supernet.get_parameter("head.classifier.weight").mul_(40)
    outside = teacher() if guide == "teacher" else None
    if outside is not None:
        outside.get_parameter("head.classifier.weight").data.mul_(40)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    phase = Phase(
        "test", {}, 10, 0, 0.1,
        strategy="sandwich", teacher="largest" if guide == "in place" else "external",
        labels="largest" if only_largest else "all", divergence=divergence, ramp=0.125,
    )  # fmt: skip
    mean = train_step(supernet, archs, (images, labels), optimizer, RECIPE, phase, outside, within=2)
    expected: dict[str, Tensor] = {}
    reports = 0.0
    sides: set[bool] = set()
    target = None if outside is None else outside(images).detach()
    for i, arch in enumerate(archs):
        network, logits = static_logits(supernet, arch, images)
        loss, reported = torch.zeros((), dtype=torch.float64), 0.0
        if i == 0 or not only_largest:
            loss = smoothed(logits, labels, RECIPE)
            reported = loss.item()
        if target is not None:
            surrogate, value = distance(divergence, logits, target, sides)
            loss = loss + RECIPE.distil_weight * surrogate
            reported += RECIPE.distil_weight * value.item()
        factor = 1.0 if i == 0 else 0.3
        (factor * loss).backward()  # type: ignore[no-untyped-call]
        reports += reported
        for name, p in network.named_parameters():
            own = supernet.get_parameter(name)
            if p.shape == own.shape or not name.endswith("depthwise.conv.weight"):
                assert p.grad is not None
                total = expected.setdefault(name, torch.zeros_like(own))
                total[tuple(slice(n) for n in p.shape)] += p.grad
            else:  # a smaller kernel: its gradient reaches the larger one through the matrix
                expected.setdefault(name, torch.full_like(own, torch.nan)).fill_(torch.nan)
        if guide == "in place" and i == 0:
            target = logits.detach()
    assert float(mean) == pytest.approx(reports / len(archs), rel=1e-5)
    compared = 0
    for name, value in expected.items():
        if not value.isnan().any():
            torch.testing.assert_close(supernet.get_parameter(name).grad, value, rtol=1e-7, atol=1e-9)
            compared += 1
    assert compared > 40
    assert sides == ({False, True} if divergence == "adaptive_alpha" else set())


def test_dropout_is_only_for_the_largest_in_place(supernet: Supernet) -> None:
    """The gradient is that of the largest network alone with dropout, plus that of the smallest without."""
    archs, recipe = [SPACE.largest(), SPACE.smallest()], replace(RECIPE, dropout=0.5)

    def gradients(chosen: list[Arch], recipe: Recipe, outside: nn.Module | None, in_place: bool) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            phase = replace(ALONE, distil=True, strategy="sandwich", teacher="largest", labels="largest") if in_place else ALONE
            train_step(supernet, chosen, batch(), torch.optim.SGD(supernet.parameters(), lr=0.0), recipe, phase, outside)
        return {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}

    class Fixed(nn.Module):
        """The largest network's logits with the dropout that it had."""

        def forward(self, images: Tensor) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                return supernet(images, SPACE.largest(), dropout=0.5)

    both = gradients(archs, recipe, None, in_place=True)
    largest = gradients(archs[:1], recipe, None, in_place=False)
    labelled = gradients(archs[1:], replace(recipe, dropout=0.0), None, in_place=False)
    taught = gradients(archs[1:], replace(recipe, dropout=0.0), Fixed(), in_place=False)
    for name, value in both.items():
        smallest = taught.get(name, torch.zeros(1)) - labelled.get(name, torch.zeros(1))
        torch.testing.assert_close(value, largest.get(name, torch.zeros(1)) + smallest, rtol=1e-9, atol=1e-11)
    with_dropout = gradients(archs[1:], recipe, None, in_place=False)
    assert not torch.equal(with_dropout["head.classifier.weight"], labelled["head.classifier.weight"])


def test_clip_value_comes_before_the_norm(supernet: Supernet) -> None:
    step(supernet, some_archs(), RECIPE, None)
    raw = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    edge = float(torch.cat([value.flatten() for value in raw.values()]).abs().median())
    step(supernet, some_archs(), replace(RECIPE, clip_value=edge, clip=1e-3), None)
    clipped = {name: value.clamp(-edge, edge) for name, value in raw.items()}
    norm = sum(float(value.square().sum()) for value in clipped.values()) ** 0.5
    assert norm > 1e-3
    for name, value in clipped.items():
        torch.testing.assert_close(supernet.get_parameter(name).grad, value * (1e-3 / norm), rtol=1e-4, atol=1e-12)


def test_gradients_are_added_up_over_processes_before_they_are_clipped(supernet: Supernet) -> None:
    """`reduce` sees all gradients, whole, and what it leaves is what the optimiser takes."""
    seen: list[float] = []

    def reduce() -> None:
        grads = [p.grad for p in supernet.parameters() if p.grad is not None]
        seen.append(sum(float(g.square().sum()) for g in grads) ** 0.5)
        for g in grads:
            g.zero_()

    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    optimizer = torch.optim.SGD(supernet.parameters(), lr=1.0)
    train_step(supernet, some_archs(), batch(), optimizer, replace(RECIPE, clip=1e-6), ALONE, reduce=reduce)
    assert len(seen) == 1
    assert seen[0] > 1e-3
    assert all(torch.equal(p, before[name]) for name, p in supernet.named_parameters())


def test_classes_weigh_in_the_loss(supernet: Supernet) -> None:
    """The reported loss of one network, against the definition with smoothed labels; and what `balance` makes of counts."""
    images, labels = batch()
    counts, recipe = [100, 10, 40, 5, 1], replace(RECIPE, distil_weight=0.0)
    weights = class_weights(np.repeat(np.arange(CLASSES), counts), CLASSES, 0.5)
    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(sum(counts))
    assert weights[1] / weights[0] == pytest.approx(10**0.5)
    assert class_weights(np.arange(CLASSES), CLASSES, 0.0) == ()
    assert class_weights(np.repeat([0, 2], [3, 5]), 3, 1.0)[1] > 0
    logits = supernet.extract(SPACE.largest()).train()(images)
    logs, w = torch.log_softmax(logits, 1).detach(), torch.tensor(weights, dtype=torch.float64)
    smooth = recipe.label_smoothing / CLASSES
    total = sum(
        -w[label] * ((1 - recipe.label_smoothing) * row[label] + smooth * row.sum())
        for row, label in zip(logs, labels.tolist(), strict=True)
    )
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    found = train_step(
        supernet, [SPACE.largest()], (images, labels), optimizer, recipe, ALONE, settings=Settings(class_weights=weights)
    )
    assert float(found) == pytest.approx(float(total / w[labels].sum()))
    shares = torch.nn.functional.one_hot(labels, CLASSES).double()
    blended = train_step(
        supernet, [SPACE.largest()], (images, shares), optimizer, recipe, ALONE, settings=Settings(class_weights=weights)
    )
    assert float(blended) == pytest.approx(float(found))


def test_the_loss_knows_how_frequent_classes_are(supernet: Supernet) -> None:
    """The reported loss, against cross-entropy of logits plus the logarithms of the classes' shares."""
    images, labels = batch()
    counts = [100, 10, 40, 5, 1]
    every = np.repeat(np.arange(CLASSES), counts)
    log_odds = class_log_odds(every, CLASSES)
    np.testing.assert_allclose(np.exp(log_odds), np.array(counts) / sum(counts))
    assert np.ptp(class_log_odds(every, CLASSES, class_weights(every, CLASSES, 1.0))) < 1e-12, "all count alike already"
    recipe, optimizer = replace(RECIPE, distil_weight=0.0), torch.optim.SGD(supernet.parameters(), lr=0.0)
    logits = supernet.extract(SPACE.largest()).train()(images).detach()
    wanted = torch.nn.functional.cross_entropy(logits + torch.tensor(log_odds), labels, label_smoothing=recipe.label_smoothing)
    settings = Settings(adjustment=tuple(log_odds.tolist()))
    found = train_step(supernet, [SPACE.largest()], (images, labels), optimizer, recipe, ALONE, settings=settings)
    assert float(found) == pytest.approx(float(wanted))


def test_how_frequent_labels_are() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    np.testing.assert_allclose(label_log_odds(labels, 2), np.log([3, 1 / 3]))
    np.testing.assert_allclose(label_log_odds(labels, 2, label_weights(labels, 2, 1.0)), 0, atol=1e-12)
