"""Draw a share of the images, by class or by groups of images that belong together."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import DataError
from .labels import Labels
from .originals import Indices, Part

LEAST_PER_CLASS = 4


def stratified(labels: Labels, share: float, rng: np.random.Generator | None = None, *, least: int = 1, leave: int = 0) -> Indices:
    """Ascending positions of about this share of every class, at least `least` each: at random, or the first ones without `rng`.

    At least `leave` of each class are not drawn. For multi-label images see `_spread`.
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


def limited(parts: Mapping[str, Part], limit: int, classes: int, *, exact: bool) -> dict[str, Part]:
    """The first images of each part, stratified by class.

    Raises:
        DataError: the limit is too low for the number of classes.
    """
    if limit < LEAST_PER_CLASS * classes:
        raise DataError(
            f"the limit of {limit} images leaves fewer than {LEAST_PER_CLASS} for each of {classes} classes: "
            f"use {LEAST_PER_CLASS * classes} or more"
        )

    def first(labels: Labels) -> Indices:
        if exact:
            return first_of(labels, limit, LEAST_PER_CLASS)
        return stratified(labels, min(1.0, limit / len(labels)), least=LEAST_PER_CLASS)

    return {name: part.subset(first(part.labels)) for name, part in parts.items()}


def first_of(labels: Labels, number: int, least: int) -> Indices:
    """Ascending positions of the first `number` images, of every class about its share and at least `least`.

    For multi-label images, `least` of each label may need a few more than `number`.
    """
    number = min(number, len(labels))
    if labels.ndim == 2:
        chosen = _spread(labels, number / len(labels), None, least, 0)
        taken, needed = np.isin(np.arange(len(labels)), chosen), np.minimum(least, labels.sum(0))
        total, more = labels[chosen].sum(0), len(chosen) - number
        for i in chosen[::-1]:  # drop the last ones that no label needs
            if more > 0 and (total - labels[i] >= needed)[labels[i] > 0].all():
                taken[i], total, more = False, total - labels[i], more - 1
        taken[np.flatnonzero(~taken)[: max(0, number - int(taken.sum()))]] = True
        return np.flatnonzero(taken)
    counts = np.bincount(labels)
    exact = counts * (number / len(labels))
    quota = np.minimum(np.maximum(np.floor(exact).astype(np.int64), least), counts)
    while quota.sum() != number:
        up = quota.sum() < number
        room = np.flatnonzero(quota < counts if up else quota > np.minimum(least, counts))
        if not len(room):
            break
        off = (exact - quota)[room]
        quota[room[int(off.argmax() if up else off.argmin())]] += 1 if up else -1
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:n] for label, n in enumerate(quota.tolist())]))


def _spread(labels: Labels, share: float, rng: np.random.Generator | None, least: int, leave: int) -> Indices:
    """Ascending positions of about this share of the images and of every label's images.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): starting with the label that has the fewest images left, each
    image goes to the side that still needs most of that label; images without any label count as one more label.
    """
    n = len(labels)
    has = np.concatenate([labels > 0, ~(labels > 0).any(1, keepdims=True)], 1)
    order = np.arange(n) if rng is None else rng.permutation(n)
    total = has.sum(0).astype(float)
    wanted = np.minimum(np.maximum(np.minimum(least, total), share * total), np.maximum(0, total - leave))
    wanted[-1] = min(wanted[-1], share * total[-1])
    others, images = total - wanted, np.array([share * n, n - share * n])
    taken, undecided, left = np.zeros(n, bool), np.ones(n, bool), total.copy()
    while undecided.any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for i in order[(has[:, label] & undecided)[order]]:
            ours, theirs = wanted[label], others[label]
            taken[i] = ours > theirs if ours != theirs else images[0] >= images[1]
            (wanted if taken[i] else others)[has[i]] -= 1
            images[0 if taken[i] else 1] -= 1
            undecided[i] = False
            left[has[i]] -= 1
    return np.flatnonzero(taken)


def grouped(labels: Labels, groups: Sequence[str], share: float, rng: np.random.Generator) -> Indices:
    """Ascending positions of about this share of every class, drawn as whole groups in random order.

    A group is taken if it brings the classes' shares closer to the target and no class loses its last images.

    Raises:
        DataError: all images belong to one group.
    """
    names, number = np.unique(np.array(groups, object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all images belong to the group {names[0]}, and holding some out takes at least 2: leave --group out, or give another "
            "column or expression"
        )
    if labels.ndim == 2:  # all images count as one more label, for those without any
        counts = np.zeros((len(names), labels.shape[1] + 1))
        np.add.at(counts, number, np.concatenate([labels, np.ones_like(labels[:, :1])], 1))
    else:
        counts = np.zeros((len(names), int(labels.max()) + 1))
        np.add.at(counts, (number, labels), 1)
    counts /= np.maximum(counts.sum(0), 1)
    order = rng.permutation(len(names))
    taken, total = np.zeros(len(names), bool), np.zeros(counts.shape[1])

    def exhausts(group: int) -> bool:
        """Whether taking the group would leave a class without images."""
        return bool(((counts[group] > 0) & (total + counts[group] > 1 - 1e-9)).any())

    for group in order:
        if ((total + counts[group] - share) ** 2).sum() < ((total - share) ** 2).sum() and not exhausts(group):
            taken[group] = True
            total += counts[group]
    for label in np.flatnonzero(counts.any(0)):  # few, large groups: each class still needs some images
        others = [group for group in order if counts[group, label] and not exhausts(group)] if not total[label] else []
        if others:
            least = min(others, key=lambda group: float(counts[group].sum()))
            taken[least] = True
            total += counts[least]
    if not taken.any():
        what = f"none of {len(names)} groups ({names[0]}, …) can be held out without a class losing its last images"
        raise DataError(f"{what}: leave --group out, or give groups such that each class is in at least two")
    return np.flatnonzero(taken[number])


def some(labels: Labels, groups: Sequence[str] | None, share: float, rng: np.random.Generator, few: bool) -> Indices:
    """Ascending positions of a share, by groups if there are any, else by class; with `few`, an image of each class is left."""
    return stratified(labels, share, rng, leave=int(few)) if groups is None else grouped(labels, groups, share, rng)
