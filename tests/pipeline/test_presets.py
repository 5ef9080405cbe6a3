"""Presets: their spaces and schedules can be made; another family does not get their arguments."""

import pytest

import onceforall
from onceforall.errors import SpaceError
from onceforall.pipeline.presets import PRESETS, Preset
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
