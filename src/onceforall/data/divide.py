"""A share of the images, by class or by groups of images that belong together."""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .labels import Labels
from .originals import Indices


def stratified(labels: Labels, share: float, rng: np.random.Generator | None = None, *, least: int = 1, leave: int = 0) -> Indices:
    """Ascending positions of about this share of every class, at least `least` each: random ones, or the first without `rng`.

    `leave` of each class are left in any case. Of images with several labels, see `_spread`.
    """
    if labels.ndim == 2:
        return _spread(labels, share, rng, least, leave)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if rng is not None:
            members = rng.permutation(members)
        chosen.append(members[: min(max(least, round(share * len(members))), len(members) - leave)])
    return np.sort(np.concatenate(chosen))


def _spread(labels: Labels, share: float, rng: np.random.Generator | None, least: int, leave: int) -> Indices:
    """Ascending positions of about this share of the images and of every label's images.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): of the label with the fewest images that are left, each image
    goes where most of that label are still wanted; images without any label count as one more label.
    """
    n = len(labels)
    own = np.concatenate([labels > 0, ~(labels > 0).any(1, keepdims=True)], 1)
    order = np.arange(n) if rng is None else rng.permutation(n)
    total = own.sum(0).astype(float)
    wanted = np.minimum(np.maximum(np.minimum(least, total), share * total), np.maximum(0, total - leave))
    wanted[-1] = min(wanted[-1], share * total[-1])
    others, images = total - wanted, np.array([share * n, n - share * n])
    taken, undecided, left = np.zeros(n, bool), np.ones(n, bool), total.copy()
    while undecided.any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for i in order[(own[:, label] & undecided)[order]]:
            ours, theirs = wanted[label], others[label]
            taken[i] = ours > theirs if ours != theirs else images[0] >= images[1]
            (wanted if taken[i] else others)[own[i]] -= 1
            images[0 if taken[i] else 1] -= 1
            undecided[i] = False
            left[own[i]] -= 1
    return np.flatnonzero(taken)


def grouped(labels: Labels, groups: Sequence[str], share: float, rng: np.random.Generator) -> Indices:
    """Ascending positions of about this share of every class, so that no group is divided: random groups.

    A group is taken if the classes' shares come closer to what is wanted by it, and no class loses its last images.

    Raises:
        DataError: one group has all images.
    """
    names, number = np.unique(np.array(groups, object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"all images belong to the group {names[0]}: at least 2 groups are needed to hold some out")
    if labels.ndim == 2:  # how many images there are is one more label, so that those without any count
        counts = np.zeros((len(names), labels.shape[1] + 1))
        np.add.at(counts, number, np.concatenate([labels, np.ones_like(labels[:, :1])], 1))
    else:
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


def some(labels: Labels, groups: Sequence[str] | None, share: float, rng: np.random.Generator, few: bool) -> Indices:
    """Ascending positions of a share: by class, or by groups where there are some; with `few` each class keeps an image."""
    return stratified(labels, share, rng, leave=int(few)) if groups is None else grouped(labels, groups, share, rng)
