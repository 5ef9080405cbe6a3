"""Settings for preparing images for evaluation and training; `batches` applies them with torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.readable import plural
from ..errors import DataError
from ..preprocess import CHANNELS, INTERPOLATIONS, LEAST_SHARE

LEAST_STD = 1e-6  # dividing by less would overflow
POLICIES = ("none", "trivial_augment", "rand_augment")


@dataclass(frozen=True)
class Preprocessing:
    """How an image with values in [0, 1] becomes a network's input; mean and std have one number per channel."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_share: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(f"the interpolation is {self.interpolation!r}: choose from {', '.join(INTERPOLATIONS)}")
        if not LEAST_SHARE <= self.crop_share <= 1:
            raise DataError(f"the crop share is {self.crop_share}: it must be from {LEAST_SHARE} to 1")
        if len(self.mean) != len(self.std) or len(self.mean) not in CHANNELS or not all(x > 0 for x in self.std):
            raise DataError(
                f"mean is {list(self.mean)} and std {list(self.std)}: give one number per channel (1, 3 or 4), for std above 0"
            )

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    @property
    def description(self) -> str:
        """The preprocessing as text."""
        return (
            f"resize the short side to ceil(resolution / {self.crop_share:g}), {self.interpolation} with antialias; center crop to "
            f"resolution × resolution; (x / 255 - {list(self.mean)}) / {list(self.std)} per channel"
        )


PREPROCESSING: Preprocessing = Preprocessing()


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Means or standard deviations for another number of channels: gray and alpha get the mean of the colors' values."""
    mean = sum(values) / len(values)
    return (*values, *[mean] * (channels - len(values))) if channels >= len(values) else (mean,) * channels


def channel_values(name: str, values: Sequence[float] | None, channels: int | None) -> tuple[float, ...] | None:
    """The values of the option `name`, "mean" or "std", one per channel if `channels` is known; None if it was not given.

    Raises:
        DataError: there is neither one number nor one per channel, or a number is impossible for pixels from 0 to 1.
    """
    if values is None:
        return None
    least = 0 if name == "mean" else LEAST_STD
    if not values or not all(isinstance(x, float | int) and least <= x <= 1 for x in values):
        what = f"use numbers from {least:g} to 1, since pixels are scaled to [0, 1] (pixel / 255)"
        raise DataError(f"--{name} {list(values)}: {what}")
    if channels is not None and len(values) not in (1, channels):
        raise DataError(
            f"--{name} has {len(values)} numbers for images of {plural(channels, 'channel')}: give one per channel, or a single one"
        )
    return tuple(map(float, values)) if channels is None or len(values) > 1 else (float(values[0]),) * channels


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    Attributes:
        crop_scale: smallest and largest share of the image's area in a crop.
        crop_ratio: smallest and largest width / height of a crop.
        flip: mirror each image with probability 1/2.
        colour: strength of brightness and saturation changes; 1 is the reference's, 0 none.
        policy: a name in `POLICIES`, of changes at the network's resolution; "trivial_augment" is the usual one.
        erase: share of the images in which a random box is erased.
        mixup: α for blending images with others of the batch; 0 for none. Labels become shares of classes.
        cutmix: α for pasting boxes from other images; 0 for none. With both, each is used for half of the batches.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    colour: float = 0.0
    policy: str = "none"
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise DataError(f"crop_scale is {self.crop_scale}: give two shares above 0 and at most 1, the smaller one first")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise DataError(f"crop_ratio is {self.crop_ratio}: give two positive ratios, the smaller one first")
        if not 0 <= self.colour <= 2:
            raise DataError(f"the strength of color changes is {self.colour}: it must be from 0 to 2")
        if self.policy not in POLICIES:
            raise DataError(f"policy is {self.policy!r}: choose from {', '.join(POLICIES)}")
        for name, most in (("erase", 1), ("mixup", 100), ("cutmix", 100)):
            if not 0 <= getattr(self, name) <= most:
                raise DataError(f"{name} is {getattr(self, name)}: it must be from 0 to {most}")
