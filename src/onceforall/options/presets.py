"""Presets: a named space and a way to train it, for a kind of data and a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..data import Augment
from ..errors import DataError, TrainingError
from ..space import Space
from ..spaces import space as make_space
from ..train import SCHEMES, Recipe, Schedule

RANDOM = "imagenette-60m"  # for photographs and random weights


@dataclass(frozen=True)
class Preset:
    """Everything `ofa train` needs besides the data.

    Args:
        what: one line on its purpose.
        family: family of the space.
        arguments: arguments of the space.
        epochs: total epochs over the training images, for all phases together.
        rate: peak learning rate of the first phase.
        recipe: see `Recipe`.
        augment: see `Augment`.
        scheme: how sub-networks are trained, a name in `onceforall.train.SCHEMES`.
        options: arguments of schemes, by scheme name.
        crop_share: share of an image's short side that the center crop keeps in evaluation.
    """

    what: str
    family: str
    arguments: dict[str, Any]
    epochs: float
    rate: float
    recipe: Recipe
    augment: Augment
    scheme: str = "progressive_shrinking"
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    crop_share: float = 0.875

    def space(self, changes: Mapping[str, Any]) -> Space:
        """The preset's space with some arguments replaced. "family" may name another family, which then uses its own defaults.

        Raises:
            SpaceError: an unknown family or argument, or a value that does not describe a space.
        """
        arguments = dict(changes)
        family = arguments.pop("family", self.family)
        return make_space(family, **(self.arguments if family == self.family else {}) | arguments)

    def schedule(self, space: Space, steps: int) -> Schedule:
        """The preset's scheme for a number of steps.

        Raises:
            TrainingError: fewer steps than phases.
        """
        return SCHEMES[self.scheme](space, steps=steps, rate=self.rate, recipe=self.recipe, **self.options.get(self.scheme, {}))


SHORT_RATES = {"largest": 1.0, "kernel": 0.3, "first": 0.2, "depth": 0.35, "expand": 0.4}
SHORT_WARMUPS = {"largest": 0.1, "kernel": 0.04, "first": 0.04, "depth": 0.04, "expand": 0.04}
SHORT_EPOCHS = {"largest": 20.0, "kernel": 3.0, "depth": 6.0, "expand": 10.0}
SHORT_SUBNETS = {"kernel": 1, "depth": 2, "expand": 2}

PRESETS: dict[str, Preset] = {
    "digits": Preset(
        what="1,797 handwritten digits that scikit-learn ships; minutes on 2 cores",
        family="mobilenet_v3",
        arguments={
            "width": 0.25,
            "resolutions": (24, 28, 32),
            "strides": (1, 1, 2, 2, 2, 1, 1),
            "depths": (1, 2, 3),
        },
        epochs=154,
        rate=0.004,
        recipe=Recipe(batch_size=64, optimizer="adamw", weight_decay=0.02, dropout=0.0),
        augment=Augment(crop_scale=(0.6, 1.0), flip=False),
        scheme="single_path",
        options={
            "progressive_shrinking": {
                "epochs": {"largest": 12.0, "kernel": 3.0, "depth": 12.0, "expand": 25.0},
                "rates": {"largest": 1.0, "kernel": 0.4, "first": 0.3, "depth": 0.5, "expand": 0.6},
                "warmups": SHORT_WARMUPS,
                "subnets": SHORT_SUBNETS,
                "strategy": "ends",
            }
        },
        crop_share=1.0,
    ),
    "digits-demo": Preset(
        what="the same digits in less time, in a space whose fast networks lose accuracy: what ofa demo trains",
        family="mobilenet_v3",
        arguments={
            "width": 0.25,
            "resolutions": (8, 16, 24),
            "strides": (1, 1, 2, 2, 2, 1, 1),
            "depths": (1, 2),
            "kernels": (3, 5),
            "expand_ratios": (1.5, 4),
        },
        epochs=90,
        rate=0.01,
        recipe=Recipe(batch_size=64, optimizer="adamw", weight_decay=0.02, dropout=0.0),
        augment=Augment(crop_scale=(0.6, 1.0), flip=False),
        scheme="single_path",
        crop_share=1.0,
    ),
    "imagenette-60m": Preset(
        what="about 10,000 photographs, 96 to 128 px; an hour on 2 cores",
        family="mobilenet_v3",
        arguments={"width": 0.5, "resolutions": (96, 112, 128)},
        epochs=100,
        rate=0.002,
        recipe=Recipe(batch_size=64, optimizer="adamw", weight_decay=0.05, dropout=0.1),
        augment=Augment(crop_scale=(0.35, 1.0)),
        scheme="single_path",
        options={
            "progressive_shrinking": {
                "epochs": SHORT_EPOCHS,
                "rates": SHORT_RATES,
                "warmups": SHORT_WARMUPS,
                "subnets": SHORT_SUBNETS,
                "strategy": "ends",
            }
        },
    ),
    "pretrained": Preset(
        what="photographs, from the trained weights of --from; half an hour on 2 cores for 1,000 of them",
        family="mobilenet_v3",
        arguments={"resolutions": (96, 128, 160)},  # the starting network determines the rest of the space
        epochs=40,
        rate=0.002,
        recipe=Recipe(batch_size=32, optimizer="adamw", weight_decay=0.03, dropout=0.1),
        augment=Augment(crop_scale=(0.35, 1.0)),
        scheme="all_sizes",
    ),
    "cifar10-30m": Preset(
        what="CIFAR-10 and the like, 24 to 32 px; half an hour on 2 cores",
        family="mobilenet_v3",
        arguments={"width": 0.25, "resolutions": (24, 28, 32), "strides": (1, 1, 2, 2, 2, 1, 1), "depths": (1, 2, 3)},
        epochs=16,
        rate=0.002,
        recipe=Recipe(batch_size=64, optimizer="adamw", weight_decay=0.03, dropout=0.0),
        augment=Augment(crop_scale=(0.5, 1.0)),
        scheme="single_path",
        crop_share=1.0,
    ),
    "cifar10-gpu": Preset(
        what="CIFAR-10 on one GPU with --budget 20m; never run on one yet",
        family="mobilenet_v3",
        arguments={"width": 1.0, "resolutions": (24, 28, 32), "strides": (1, 1, 2, 2, 2, 1, 1)},
        epochs=200,
        rate=0.004,
        recipe=Recipe(batch_size=512, optimizer="adamw", weight_decay=0.05, dropout=0.1, ema=0.999),
        augment=Augment(crop_scale=(0.4, 1.0), colour=0.5),
        scheme="sandwich",
        crop_share=1.0,
    ),
    "imagenette-gpu": Preset(
        what="about 10,000 photographs, 96 to 128 px, on one GPU with --budget 20m; never run on one yet",
        family="mobilenet_v3",
        arguments={"width": 1.0, "resolutions": (96, 112, 128)},
        epochs=300,
        rate=0.003,
        recipe=Recipe(batch_size=256, optimizer="adamw", weight_decay=0.05, dropout=0.2, ema=0.999),
        augment=Augment(crop_scale=(0.25, 1.0), colour=0.5),
        scheme="sandwich",
    ),
    "imagenet-ofa": Preset(
        what="the Once-for-All paper's recipe for ImageNet (shards, --cache none): batch 2,048, 605 epochs; years on a CPU",
        family="mobilenet_v3",
        arguments={"width": 1.0},
        epochs=605,
        rate=2.6,
        recipe=Recipe(batch_size=2048),
        augment=Augment(colour=1.0),
    ),
    "imagenet-alphanet": Preset(
        what="AlphaNet's recipe for ImageNet (shards, --cache none): batch 2,048, 360 epochs, 4 networks a step; years on a CPU",
        family="mobilenet_v3",
        arguments={"width": 1.2, "resolutions": (192, 224, 256, 288)},
        epochs=360,
        rate=0.8,
        recipe=Recipe(batch_size=2048, weight_decay=1e-5, dropout=0.2, clip_value=1.0, zero_residual=True),
        augment=Augment(colour=1.0),
        scheme="alphanet",
        options={"alphanet": {"warmup": 5 / 360}},
    ),
}


def choose_preset(
    name: str,
    scheme: str | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Preset:
    """A preset with the given parts replaced; `recipe` has fields of `Recipe` and `Augment` by name.

    Raises:
        TrainingError: an unknown preset, scheme or field, or a value that a field cannot have.
    """
    if name not in PRESETS:
        raise TrainingError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if recipe:
        preset = _changed(preset, recipe)
    if scheme is not None and scheme not in SCHEMES:
        raise TrainingError(f"unknown scheme {scheme!r}: choose one of {', '.join(SCHEMES)}")
    return replace(
        preset,
        scheme=scheme or preset.scheme,
        recipe=preset.recipe if batch_size is None else replace(preset.recipe, batch_size=batch_size),
        rate=preset.rate if rate is None else rate,
    )


def _changed(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """The preset with some values of its recipe and augmentation replaced."""
    fields = {part: dict.fromkeys(part.__dataclass_fields__) for part in (preset.recipe, preset.augment)}
    del fields[preset.recipe]["batch_size"]
    found: dict[Any, dict[str, Any]] = {preset.recipe: {}, preset.augment: {}}
    for name, value in changes.items():
        part = next((part for part, own in fields.items() if name in own), None)
        if part is None:
            close = "; the batch size has an option of its own, --batch-size" if name == "batch_size" else ""
            known = ", ".join(name for own in fields.values() for name in own)
            raise TrainingError(f"a recipe has no {name!r}: choose from {known}{close}")
        found[part][name] = _like(name, value, getattr(part, name))
    try:
        recipe, augment = (replace(part, **values) for part, values in found.items())
    except (DataError, TrainingError) as error:
        raise TrainingError(f"recipe: {error}") from None
    return replace(preset, recipe=recipe, augment=augment)


def _like(name: str, value: Any, own: Any) -> Any:
    """The value if it has the type of the current one; a `TrainingError` otherwise."""
    if isinstance(own, bool | str):
        if isinstance(value, type(own)):
            return value
    else:
        several = isinstance(own, tuple)
        values = tuple(value) if several and isinstance(value, tuple | list) else (value,)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numbers and len(values) == (len(own) if several else 1):
            whole = isinstance(own, int)
            found = tuple(v if whole else float(v) for v in values)
            return found if several else found[0]
    wanted = "/".join(map(str, own)) if isinstance(own, tuple) else "yes or no" if isinstance(own, bool) else own
    raise TrainingError(f"recipe: {name}={value}: a value such as {wanted} is needed")
