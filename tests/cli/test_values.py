"""Values on the command line: what is written is what is meant, and everything else is refused in one line."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.errors import ValueTextError
from onceforall.options.values import amount_of_text, duration_s, latencies_ms, memory_bytes, recipe_values, space_arguments

PARSERS: dict[str, Callable[[str], Any]] = {
    "duration": duration_s, "latencies": latencies_ms, "amount": amount_of_text, "memory": memory_bytes, "space": space_arguments
}  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration_s, "90s", 90), (duration_s, "30m", 1800), (duration_s, "30min", 1800), (duration_s, "1.5h", 5400),
        (duration_s, " 2 h ", 7200), (duration_s, "1h30m", 5400), (duration_s, "1h 30m", 5400), (duration_s, "1h30", 5400),
        (duration_s, "1 h 30 min 15 s", 5415), (duration_s, "2d", 172800), (duration_s, "1d12h", 129600), (duration_s, "2m30", 150),
        (duration_s, "1h30m15", 5415), (duration_s, "90 minutes", 5400), (duration_s, "1e3s", 1000),
        (amount_of_text, "300M", 300e6), (amount_of_text, "1.5k", 1500), (amount_of_text, "2K", 2000),
        (amount_of_text, "4000000", 4e6), (amount_of_text, "3e8", 3e8), (amount_of_text, "1G", 1e9), (amount_of_text, ".5M", 5e5),
        (memory_bytes, "4MB", 4e6), (memory_bytes, "512KiB", 524288), (memory_bytes, "1.5 GB", 1.5e9),
        (memory_bytes, "2MiB", 2097152), (memory_bytes, "100", 100), (memory_bytes, "7B", 7), (memory_bytes, "1GiB", 2**30),
    ],
)  # fmt: skip
def test_numbers_with_units(parse: Callable[[str], float], text: str, value: float) -> None:
    assert parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "values"), [("5ms", [5]), ("2ms,5ms,800us", [2, 5, 0.8]), ("0.5s", [500]), ("80µs, 1 ms", [0.08, 1])]
)
def test_latencies(text: str, values: list[float]) -> None:
    assert latencies_ms(text) == pytest.approx(values)


@given(st.floats(1e-3, 1e6), st.sampled_from(["s", "m", "min", "h"]))
def test_durations_round_trip(value: float, unit: str) -> None:
    assert duration_s(f"{value!r}{unit}") == pytest.approx(value * {"s": 1, "m": 60, "min": 60, "h": 3600}[unit])


@pytest.mark.parametrize("parse", [duration_s, latencies_ms, amount_of_text, memory_bytes])
@pytest.mark.parametrize(
    "text", ["", " ", "ms", "-5ms", "0", "0ms", "nan", "inf", "1e999s", "5 parsecs", "5ms;", "5..ms", "1_0ms", "five"]
)
def test_refused(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueTextError, match="is needed") as refused:
        parse(text)
    assert refused.value.exit_code == 2
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["90", "1:30", "1:30:00", "PT1H", "30m1h", "1h1h", "1h30x", "h30m", "1h,30m", "-1h", "1h-30m", "1s30", "1h0x"]
)
def test_times_that_mean_several_things_are_refused(text: str) -> None:
    with pytest.raises(ValueTextError, match=r"a time such as 90s, 30m, 1\.5h, 1h30m or 2d is needed"):
        duration_s(text)


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99))
def test_times_of_several_units(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    for text in (f"{hours}h{minutes}m{seconds}s", f"{hours} h {minutes} min {seconds} s"):
        if total:
            assert duration_s(text) == total
        else:
            with pytest.raises(ValueTextError):
                duration_s(text)


def test_a_unit_of_something_else_is_refused() -> None:
    for parse, text in (
        (duration_s, "5ms"),
        (latencies_ms, "5m"),
        (latencies_ms, "5"),
        (amount_of_text, "5MB"),
        (memory_bytes, "5M"),
    ):
        with pytest.raises(ValueTextError, match="such as"):
            parse(text)


@pytest.mark.parametrize("name", PARSERS)
@given(text=st.text(max_size=12) | st.from_regex(r"[0-9.eE+-]{1,8}[a-zA-Zµ]{0,3}(,[0-9]{1,3}ms)?", fullmatch=True))
def test_any_text(name: str, text: str) -> None:
    try:
        found = PARSERS[name](text)
    except ValueTextError:
        return
    if name != "space":
        for value in found if isinstance(found, list) else [found]:
            assert 0 < value < math.inf


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("width=0.5", {"width": 0.5}),
        ("width=1", {"width": 1}),
        ("resolutions=96/112/128", {"resolutions": (96, 112, 128)}),
        ("depths=2", {"depths": (2,)}),
        ("width=0.5, expand_ratios=3/4.5 ,", {"width": 0.5, "expand_ratios": (3, 4.5)}),
        ("mobilenet_v3:width=0.5", {"family": "mobilenet_v3", "width": 0.5}),
        ("mobilenet_v3:", {"family": "mobilenet_v3"}),
        ("", {}),
    ],
)
def test_space_arguments(text: str, arguments: dict[str, Any]) -> None:
    found = space_arguments(text)
    assert found == arguments
    assert [type(value) for value in found.values()] == [type(value) for value in arguments.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "'width' is not of the form name=value"),
        ("=5", "not of the form"),
        ("width=", "not of the form"),
        ("width=wide", "'wide' in 'width=wide' is not a number"),
        ("resolutions=96//128", "'' in 'resolutions=96//128' is not a number"),
        ("width=1,width=2", "width is given twice"),
    ],
)
def test_space_arguments_refused(text: str, message: str) -> None:
    with pytest.raises(ValueTextError, match=message):
        space_arguments(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("mixup=0.2", {"mixup": 0.2}),
        ("crop_scale=0.35/1, flip=no,erase=1 ,", {"crop_scale": (0.35, 1), "flip": False, "erase": 1}),
        ("policy=trivial_augment,zero_residual=YES", {"policy": "trivial_augment", "zero_residual": True}),
        ("erase=-1,weight_decay=1e-4", {"erase": -1, "weight_decay": 1e-4}),
        ("", {}),
    ],
)
def test_recipe_values(text: str, values: dict[str, Any]) -> None:
    found = recipe_values(text)
    assert found == values
    assert [type(value) for value in found.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixup", "recipe: 'mixup' is not of the form name=value, such as mixup=0.2"),
        ("=1", "not of the form"),
        ("mixup=0.1,mixup=0.2", "recipe: mixup is given twice"),
    ],
)
def test_recipe_values_refused(text: str, message: str) -> None:
    with pytest.raises(ValueTextError, match=message):
        recipe_values(text)
