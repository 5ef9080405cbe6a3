"""Multilayer perceptrons on choices, sums of them and the size of a network: an ensemble, one without each fold.

All members are trained at once, as matrices with one more dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Features, Matrix
from .folds import OTHERS, across_folds, jackknife
from .model import Floats, Learnt
from .perceptron import Perceptron

__all__ = ["PerceptronsModel"]

HIDDEN = 64
BATCH = 64
EPOCHS, LEAST_STEPS, MOST_STEPS = 60, 400, 1500
RATE = 0.01
DECAY = 4.0  # weakens weights by a factor of about 6 while they are learnt
CHUNK = 4096  # rows predicted at a time


@dataclass(frozen=True, eq=False)
class PerceptronsModel:
    """Made by `learn` or `read`.

    Args:
        features: of networks.
        n: number of measured networks.
        middle: mean of the measured accuracies.
        spread: their standard deviation.
        members: perceptrons that predict (accuracy - middle) / spread.
    """

    features: Features
    n: int
    middle: float
    spread: float
    members: tuple[Perceptron, ...]

    @classmethod
    def learn(cls, features: Features, genes: Genes, labels: Matrix, folds: Any, rng: np.random.Generator) -> Learnt:
        """Fit to measured gene rows; see `choose.LEARNERS` for the arguments."""
        middle, spread = float(labels[:, -1].mean()), max(float(labels[:, -1].std()), 1e-6)
        members = _train(_inputs(features, genes), (labels[:, :-1] - middle) / spread, folds, rng)
        model = cls(features, len(genes), middle, spread, members)
        return across_folds(model, model._predictions(genes), folds, features.space.sample_genes(rng, OTHERS))

    @classmethod
    def read(cls, space: Space, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> "PerceptronsModel":
        """From what `description` and `arrays` gave. The smallest network is predicted, which finds most damages.

        Raises:
            LookupError, TypeError, ValueError: they do not belong together.
        """
        features = Features.read(space, arrays)
        members = tuple(
            Perceptron.of(*([arrays[f"{m}.{i}.{what}"] for i in range(3)] for what in ("weight", "bias")))
            for m in range(int(description["members"]))
        )
        model = cls(features, int(description["n"]), float(description["middle"]), float(description["spread"]), members)
        if not members or not np.isfinite(model.mean(space.genes([space.smallest()]))).all():
            raise ValueError("it cannot predict")
        return model

    @property
    def kind(self) -> str:
        """ "perceptrons"."""
        return "perceptrons"

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        return self.mean_and_std(genes)[0]

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and their jackknife standard deviations, each (n,)."""
        members = self._predictions(genes)
        return members.mean(0), jackknife(members)

    def structure(self) -> None:
        """None: perceptrons are no quadratic function."""

    def description(self) -> dict[str, Any]:
        """Numbers of networks and members, and the unit of what these predict."""
        numbers = {"n": self.n, "members": len(self.members), "middle": self.middle, "spread": self.spread}
        return {"model": "perceptrons", **numbers}

    def arrays(self) -> dict[str, Any]:
        """The layers of each member, and what the features need."""
        found = dict(self.features.arrays())
        for m, member in enumerate(self.members):
            for what, layers in (("weight", member.weights), ("bias", member.biases)):
                found |= {f"{m}.{i}.{what}": layer for i, layer in enumerate(layers)}
        return found

    def _predictions(self, genes: Genes) -> Matrix:
        """(members, n) what each member predicts."""
        result = np.empty((len(self.members), len(genes)))
        for at in range(0, len(genes), CHUNK):
            x = _inputs(self.features, genes[at : at + CHUNK])
            for row, member in zip(result, self.members, strict=True):
                row[at : at + CHUNK] = member(x)
        return self.middle + self.spread * result


def _inputs(features: Features, genes: Genes) -> Any:
    """(n, inputs) float32: choices, their sums by stage, and the summary."""
    choices = features.choices(genes)
    return np.concatenate([choices, choices @ features.maps["sums"], features.summary(genes)], 1).astype(np.float32)


def _train(x: Any, y: Matrix, folds: Any, rng: np.random.Generator) -> tuple[Perceptron, ...]:
    """One perceptron for each column of y (n, members), on the rows that are not in the fold of that number."""
    import torch  # slow to load, and needed only here

    members, generator = y.shape[1], torch.Generator().manual_seed(int(rng.integers(2**31)))
    sizes = (x.shape[1], HIDDEN, HIDDEN, 1)
    weights = [
        (torch.randn(members, a, b, generator=generator) * ((2 if b > 1 else 0.1) / a) ** 0.5).requires_grad_()
        for a, b in pairwise(sizes)
    ]
    biases = [torch.zeros(members, 1, b, requires_grad=True) for b in sizes[1:]]
    steps = min(max(EPOCHS * -(-len(x) // BATCH), LEAST_STEPS), MOST_STEPS)
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}], lr=RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    used = torch.from_numpy((folds[:, None] != np.arange(members)).astype(np.float32))
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(len(x), size=BATCH))
        hidden = inputs[rows].expand(members, -1, -1)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden.relu() if i else hidden, weight)
        loss = (((hidden[:, :, 0].T - targets[rows]) ** 2) * used[rows]).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    layers = [[layer.detach().numpy()[m] for layer in weights] for m in range(members)]
    offsets = [[layer.detach().numpy()[m, 0] for layer in biases] for m in range(members)]
    return tuple(Perceptron.of(w, b) for w, b in zip(layers, offsets, strict=True))
