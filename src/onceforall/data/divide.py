"""A share of the images, by class or by groups of images that belong together."""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .originals import Indices


def stratified(labels: Indices, share: float, rng: np.random.Generator | None = None, *, least: int = 1, leave: int = 0) -> Indices:
    """Ascending positions of about this share of every class, at least `least` each: random ones, or the first without `rng`.

    `leave` of each class are left in any case.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if rng is not None:
            members = rng.permutation(members)
        chosen.append(members[: min(max(least, round(share * len(members))), len(members) - leave)])
    return np.sort(np.concatenate(chosen))


def grouped(labels: Indices, groups: Sequence[str], share: float, rng: np.random.Generator) -> Indices:
    """Ascending positions of about this share of every class, so that no group is divided: random groups.

    A group is taken if the classes' shares come closer to what is wanted by it, and no class loses its last images.

    Raises:
        DataError: one group has all images.
    """
    names, number = np.unique(np.array(groups, object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"all images belong to the group {names[0]}: at least 2 groups are needed to hold some out")
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (number, labels), 1)
    counts /= np.maximum(counts.sum(0), 1)
    order = rng.permutation(len(names))
    taken, total = np.zeros(len(names), bool), np.zeros(counts.shape[1])

    def whole(group: int) -> bool:
        """Whether a class loses its last images by one more group."""
        return bool(((counts[group] > 0) & (total + counts[group] > 1 - 1e-9)).any())

    for group in order:
        if ((total + counts[group] - share) ** 2).sum() < ((total - share) ** 2).sum() and not whole(group):
            taken[group] = True
            total += counts[group]
    for label in np.flatnonzero(counts.any(0)):  # where groups are few and large: each class needs some images
        others = [group for group in order if counts[group, label] and not whole(group)] if not total[label] else []
        if others:
            least = min(others, key=lambda group: float(counts[group].sum()))
            taken[least] = True
            total += counts[least]
    return np.flatnonzero(taken[number])


def some(labels: Indices, groups: Sequence[str] | None, share: float, rng: np.random.Generator, few: bool) -> Indices:
    """Ascending positions of a share: by class, or by groups where there are some; with `few` each class keeps an image."""
    return stratified(labels, share, rng, leave=int(few)) if groups is None else grouped(labels, groups, share, rng)
