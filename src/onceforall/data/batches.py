"""Training batches from cached uint8 images and evaluation batches from the originals, made in this process without global state.

A training batch is a pure function of (seed, step, resolution), so a resumed run sees exactly the batches of an uninterrupted
one. From cached images it takes a few percent of a training step on the same CPU (benchmarks/loader.py), so nothing is
prefetched; without a cache, see `decoding`. Whole batches are normalized by NumPy in the calling thread: torch's threads took up to
10× as long when the cores were busy.

Shapes: x (n, channels, height, width) float32, channels-last; labels (n,) int64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..common.readable import plural
from ..errors import DataError
from ..preprocess import normalise
from ..resolutions import Resolution, height_width
from .changes import by_policy, erased, mixed
from .preparation import PREPROCESSING, Augment, Preprocessing
from .splits import Images

GREY = (0.299, 0.587, 0.114)
BRIGHTNESS = 32 / 255  # the reference's color jitter ("tf"), at strength 1
SATURATION = 0.5
CROP_TRIES = 10


class Draw(NamedTuple):
    """The random choices for a batch of n images.

    Attributes:
        chosen: (n,) int64, indices of the images.
        boxes: (n, 4) int64, crop of each image: top, left, height, width.
        flips: (n,) bool, which are mirrored.
        colour: (2, n, 1, 1, 1) float32, changes of brightness and saturation, in [-1, 1] times their strength.
        seeds: (n,) int64, for the other changes of each image.
        seed: for changes of the whole batch, such as mixing.
    """

    chosen: NDArray[np.int64]
    boxes: NDArray[np.int64]
    flips: NDArray[np.bool_]
    colour: NDArray[np.float32]
    seeds: NDArray[np.int64]
    seed: int


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """Training batches by step. Every epoch has a new order; its last, partial batch is dropped.

    Each of several processes makes its own part of the batch that a single process would make.

    Args:
        images: to draw from.
        batch_size: images per batch, over all processes.
        seed: of order, crops and changes.
        augment: random changes.
        preprocessing: from pixels to the network's input.
        rank: of this process.
        world: number of processes.
        classes: number of classes, for mixing; each process mixes its own part.
        aspect: width over height of the networks' images; random crops are wider by this factor.

    Raises:
        DataError: fewer images than one batch.
    """

    images: Images
    batch_size: int
    seed: int
    augment: Augment
    preprocessing: Preprocessing = PREPROCESSING
    rank: int = 0
    world: int = 1
    classes: int = 0
    aspect: float = 1.0

    def __post_init__(self) -> None:
        channels = self.images.part.how.channels
        if self.preprocessing.channels != channels:
            raise DataError(
                f"mean and std have {self.preprocessing.channels} values, and the images {plural(channels, 'channel')}: give one "
                "value per channel"
            )
        if self.augment.policy != "none" and channels == 4:
            raise DataError(f"the policy {self.augment.policy} needs images of 1 or 3 channels, not 4: leave it out")
        if (self.augment.mixup or self.augment.cutmix) and self.classes < 1:
            raise DataError("mixup and cutmix need the number of classes: give `classes`")
        if self.batch_size % self.world:
            raise DataError(
                f"the batch size is {self.batch_size}, which {self.world} processes cannot share evenly: use a multiple"
            )
        if self.batch_size < 1 or self.seed < 0:
            raise DataError(f"the batch size is {self.batch_size} and the seed {self.seed}: use at least 1 and 0")
        if self.batch_size > len(self.images):
            raise DataError(
                f"the batch size is {self.batch_size} but there are only {len(self.images)} training images: use "
                f"smaller batches, with --batch-size {len(self.images) // self.world * self.world} or less"
            )

    @property
    def batches_per_epoch(self) -> int:
        return len(self.images) // self.batch_size

    def draw(self, step: int) -> Draw:
        """The random choices for this process's part of batch `step`, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.batches_per_epoch)
        chosen = _order(len(self.images), self.seed, epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, 1, step])
        boxes = random_boxes(self.images.shapes[chosen], self.augment, rng, self.aspect)
        flips = rng.random(len(chosen)) < (0.5 if self.augment.flip else 0.0)
        spread = rng.uniform(-1, 1, (2, len(chosen), 1, 1, 1)).astype(np.float32)
        seeds = rng.integers(2**62, size=len(chosen) + 1)
        size = self.batch_size // self.world
        mine = slice(self.rank * size, (self.rank + 1) * size)
        changes = flips[mine], self.augment.colour * spread[:, mine], seeds[1:][mine], int(seeds[0])
        return Draw(chosen[mine], boxes[mine], *changes)

    def batch(self, step: int, resolution: Resolution) -> tuple[Tensor, Tensor]:
        """Batch `step`: images and labels; with mixing, the labels are shares of classes, (n, classes) float32.

        Every resolution has the same images and crops.
        """
        draw = self.draw(step)
        return self.resized(draw, self.crops(draw), resolution)

    def crops(self, draw: Draw) -> list[NDArray[np.uint8]]:
        """The crop of each image in a batch, (height, width, channels); decoded now if no pixels are cached."""
        boxes = zip(draw.chosen.tolist(), draw.boxes.tolist(), strict=True)
        return [self.images.pixels(i)[top : top + height, left : left + width] for i, (top, left, height, width) in boxes]

    def resized(self, draw: Draw, crops: Sequence[NDArray[np.uint8]], resolution: Resolution) -> tuple[Tensor, Tensor]:
        """The batch made from these crops."""
        height, width = height_width(resolution)
        out = np.empty((len(crops), height, width, self.images.part.how.channels), np.uint8)
        for i, (crop, flip) in enumerate(zip(crops, draw.flips, strict=True)):
            out[i] = _resize(crop[:, ::-1] if flip else crop, height, width)
        if self.augment.policy != "none":
            by_policy(self.augment.policy, out, draw.seeds.tolist())
        x = out.astype(np.float32)
        if self.augment.colour:
            _jitter(x, draw.colour)
        return self.finished(_normalised(x, self.preprocessing), torch.from_numpy(self.images.labels[draw.chosen]), draw)

    def finished(self, x: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """The normalized images of a batch and their labels after erasing and mixing, on any device."""
        augment = self.augment
        if augment.erase:
            erased(x, augment.erase, draw.seeds.tolist())
        if augment.mixup or augment.cutmix:
            return mixed(x, labels, self.classes, augment.mixup, augment.cutmix, draw.seed)
        return x, labels


def eval_batches(
    images: Images, resolution: Resolution, batch_size: int, preprocessing: Preprocessing = PREPROCESSING
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, made from their originals by `onceforall.preprocess`; the last batch may be smaller."""
    groups = [np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    for chosen, pixels in zip(groups, images.fitted(groups, resolution, preprocessing), strict=True):
        yield _normalised(pixels, preprocessing), torch.from_numpy(images.labels[chosen])


def calibration_batches(
    images: Images,
    resolution: Resolution,
    n_images: int,
    batch_size: int,
    seed: int,
    preprocessing: Preprocessing = PREPROCESSING,
    *,
    after: int = 0,
) -> Iterator[Tensor]:
    """At most `n_images` images, drawn without replacement and preprocessed as for evaluation, in batches of about `batch_size`.

    Batch sizes differ by at most one, since a small last batch would give poor statistics. The first `after` images are skipped;
    the order of the images does not depend on `n_images`.
    """
    chosen = np.random.default_rng([seed, 2]).permutation(len(images))[after:n_images]
    groups = [batch for batch in np.array_split(chosen, max(1, round(len(chosen) / batch_size))) if len(batch)]
    for pixels in images.fitted(groups, resolution, preprocessing):
        yield _normalised(pixels, preprocessing)


def _normalised(pixels: NDArray[Any], preprocessing: Preprocessing) -> Tensor:
    """(n, h, w, c) in [0, 255], overwritten → (n, c, h, w), channels-last memory format."""
    return torch.from_numpy(normalise(pixels, preprocessing.mean, preprocessing.std))


def random_boxes(shapes: NDArray[np.int64], augment: Augment, rng: np.random.Generator, aspect: float = 1.0) -> NDArray[np.int64]:
    """A random crop (top, left, height, width) for each (height, width): the usual ten tries, then the center.

    The crops' aspect ratios are those of `augment` times `aspect` (width over height).
    """
    n, (least, most) = len(shapes), (ratio * aspect for ratio in augment.crop_ratio)
    heights, widths = shapes[:, 0], shapes[:, 1]
    areas = heights * widths * rng.uniform(*augment.crop_scale, size=(CROP_TRIES, n))
    ratios = np.exp(rng.uniform(log(least), log(most), size=(CROP_TRIES, n)))
    tried_w, tried_h = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (tried_w >= 1) & (tried_w <= widths) & (tried_h >= 1) & (tried_h <= heights)
    first, any_fits = fits.argmax(0), fits.any(0)
    ratio = np.clip(widths / heights, least, most)
    fallback_w = np.maximum(1, np.minimum(widths, np.rint(heights * ratio)))
    fallback_h = np.maximum(1, np.minimum(heights, np.rint(widths / ratio)))
    across = np.where(any_fits, tried_w[first, np.arange(n)], fallback_w).astype(np.int64)
    down = np.where(any_fits, tried_h[first, np.arange(n)], fallback_h).astype(np.int64)
    where = rng.random((2, n))
    top = np.where(any_fits, where[0] * (heights - down + 1), (heights - down) // 2).astype(np.int64)
    left = np.where(any_fits, where[1] * (widths - across + 1), (widths - across) // 2).astype(np.int64)
    return np.stack([top, left, down, across], 1)


@lru_cache(maxsize=4)
def _order(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(images)


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(h, w, c) → (height, width, c) uint8, bilinear with antialias. One channels-last uint8 image is torch's fastest case."""
    if pixels.shape[:2] == (height, width):  # as decoded for the largest resolution
        return pixels
    image = torch.from_numpy(pixels.copy(order="C")).permute(2, 0, 1)[None]
    resized: NDArray[np.uint8] = F.interpolate(image, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    return resized


def _jitter(pixels: NDArray[np.float32], spread: NDArray[np.float32]) -> None:
    """Change brightness and saturation of each image in place; (n, h, w, c) in [0, 255], spread (2, n, 1, 1, 1).

    Gray images have no saturation; an alpha channel is not changed.
    """
    pixels = pixels[..., :3]  # a view
    light, colour = np.maximum(0, 1 + BRIGHTNESS * spread[0]), np.maximum(0, 1 + SATURATION * spread[1])
    if pixels.shape[3] == 1:
        pixels *= light
    else:
        grey = (pixels @ np.array(GREY, np.float32))[..., None]
        pixels *= light * colour
        pixels += grey * (light * (1 - colour))
    np.clip(pixels, 0, 255, out=pixels)
