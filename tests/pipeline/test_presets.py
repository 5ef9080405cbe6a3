"""Presets: their spaces and schedules can be made; another family does not get their arguments."""

from dataclasses import asdict, replace
from typing import Any

import pytest

import onceforall
from onceforall.errors import SpaceError, TrainingError
from onceforall.options.presets import PRESETS, Preset, choose_preset
from onceforall.options.values import recipe_values
from onceforall.space import Space
from onceforall.spaces import FAMILIES


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_gives_a_space_and_a_schedule(preset: Preset) -> None:
    space = preset.space({})
    assert space.family == preset.family
    schedule = preset.schedule(space, 100)
    assert schedule.steps == 100
    assert space.keep_largest(**schedule.phases[-1].keep) == space


def test_arguments_replace_those_of_the_preset() -> None:
    preset = PRESETS["digits"]
    assert preset.space({"depths": (2,)}) == onceforall.space("mobilenet_v3", **preset.arguments | {"depths": (2,)})
    assert preset.space({"family": "mobilenet_v3"}) == preset.space({})
    with pytest.raises(SpaceError, match="unknown family 'no-such': choose one of mobilenet_v3"):
        preset.space({"family": "no-such"})


def test_another_family_has_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(*, resolutions: tuple[int, ...] = (16,)) -> Space:
        return FAMILIES["mobilenet_v3"](width=0.1, resolutions=resolutions)

    monkeypatch.setitem(FAMILIES, "narrow", narrow)
    assert PRESETS["digits"].space({"family": "narrow"}) == narrow()
    assert PRESETS["digits"].space({"family": "narrow", "resolutions": (20, 24)}) == narrow(resolutions=(20, 24))
    with pytest.raises(SpaceError, match="narrow has no argument 'width': choose from resolutions"):
        PRESETS["digits"].space({"family": "narrow", "width": 0.5})


def test_a_recipe_is_changed_by_name() -> None:
    plain = PRESETS["pretrained"]
    changed = choose_preset("pretrained", recipe={"mixup": 0.2, "ema": 0.99, "flip": False, "crop_scale": [0.5, 1]})
    assert changed.augment == replace(plain.augment, mixup=0.2, flip=False, crop_scale=(0.5, 1))
    assert changed.recipe == replace(plain.recipe, ema=0.99)
    assert changed.scheme == plain.scheme
    assert isinstance(choose_preset("pretrained", recipe={"mixup": 1}).augment.mixup, float)
    assert isinstance(choose_preset("pretrained", recipe={"patience": 1}).recipe.patience, int)
    assert choose_preset("pretrained", recipe={}) == choose_preset("pretrained") == plain


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixip": 1}, "a recipe has no 'mixip': choose from optimizer, .*, mixup, cutmix"),
        ({"batch_size": 8}, "a recipe has no 'batch_size': .*; the batch size has an option of its own, --batch-size"),
        ({"flip": 0.5}, "recipe: flip=0.5: a value such as yes or no is needed"),
        ({"mixup": "much"}, "recipe: mixup=much: a value such as 0.0 is needed"),
        ({"mixup": True}, "recipe: mixup=True"),
        ({"mixup": (0.1, 0.2)}, "recipe: mixup="),
        ({"crop_scale": 0.5}, "recipe: crop_scale=0.5: a value such as 0.35/1.0 is needed"),
        ({"crop_scale": (1, 0.5)}, r"recipe: crop_scale is \(1.0, 0.5\): give two shares"),
        ({"policy": "auto"}, "recipe: policy is 'auto': choose from"),
        ({"policy": 1}, "recipe: policy=1: a value such as none is needed"),
        ({"drop_path": 1}, "drop_path is 1.0: it must be a number from 0 to 0.999"),
        ({"optimizer": "lamb"}, "optimizer is 'lamb': choose from sgd, adamw"),
    ],
)
def test_recipes_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        choose_preset("pretrained", recipe=values)


def test_every_value_of_a_recipe_can_be_written_on_the_command_line() -> None:
    preset = PRESETS["pretrained"]
    for part in (preset.recipe, preset.augment):
        for name, value in asdict(part).items():
            if name != "batch_size":
                text = "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
                assert choose_preset("pretrained", recipe=recipe_values(f"{name}={text}")) == preset
