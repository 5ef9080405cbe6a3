import numpy as np
import pytest

from onceforall.common.readable import (
    amount,
    duration,
    kendall_text,
    memory,
    milliseconds,
    paired_difference,
    percent,
    plural,
    quantity,
    rounded_up,
    table,
    wilson,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (9999, "9,999"),
        (12_345, "12.3 k"),
        (28_883_440, "28.9 M"),
        (1.5e9, "1.50 G"),
        (6.5e19, "6.5 × 10¹⁹"),
        (None, "–"),
    ],
)
def test_amount(value, text):
    assert amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2131, "0.213 ms"),
        (4.213, "4.21 ms"),
        (42.13, "42.1 ms"),
        (421.3, "421 ms"),
        (0.00123, "0.00123 ms"),
        (0, "0.000 ms"),
        (float("nan"), "–"),
    ],
)
def test_milliseconds(value, text):
    assert milliseconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(3.21, "3.2 s"), (75, "75 s"), (3290, "55 min"), (3725, "1 h 2 min"), (None, "–")])
def test_duration(value, text):
    assert duration(value) == text


def test_percent_and_memory():
    assert percent(0.9731) == "97.3 %"
    assert percent(None) == "–"
    assert memory(294_912) == "294.9 kB"
    assert memory(1_500_000) == "1.50 MB"
    assert memory(999) == "999 B"


@pytest.mark.parametrize(
    ("value", "least"), [(100_040_000, 101e6), (0.156438, 0.157), (123, 123), (999.5, 1000), (0, 0), (1e-9, 1e-9)]
)
def test_rounded_up(value, least):
    assert rounded_up(value) == pytest.approx(least, rel=1e-12)
    assert rounded_up(value) >= value


def test_quantity_and_plural():
    found = [quantity(name, 250_000) for name in ("macs", "params", "memory_bytes", "flash_bytes", "ram_bytes", "joules")]
    assert found == [
        "250.0 k MACs", "250.0 k parameters", "250.0 kB of activations", "250.0 kB of flash", "250.0 kB of RAM", "joules 250000",
    ]  # fmt: skip
    assert quantity("latency_ms", 4.2) == "4.20 ms"
    assert [plural(n, "epoch") for n in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]


def test_wilson_agrees_with_published_values():
    """81 of 263: 0.2553 to 0.3662 (Newcombe 1998, table I, method 3)."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(ValueError, match="n is 0"):
        wilson(0.5, 0)


def test_table_escapes_bars():
    assert table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"


def test_a_paired_difference_is_that_of_the_images_one_by_one():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(4000) < 0.9, rng.random(4000) < 0.8
    each = ours.astype(float) - theirs
    half = 1.96 * each.std() / np.sqrt(len(each))
    found = paired_difference(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(each))
    assert found == pytest.approx((each.mean() - half, each.mean() + half), abs=2e-4)


def test_a_paired_difference_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    cells = rng.multinomial(359, [0.08, 0.03, 0.89], size=2000)  # gained, lost, alike
    inside = [low <= 0.05 <= high for low, high in (paired_difference(int(g), int(b), 359) for g, b, _ in cells)]
    assert 0.93 < np.mean(inside) < 0.97


def test_a_paired_difference_of_nothing_is_not_certain():
    low, high = paired_difference(0, 0, 100)
    assert -0.03 < low < 0 < high < 0.03
    with pytest.raises(ValueError, match="n is 0: a share needs at least 1 image"):
        paired_difference(0, 0, 0)


def test_kendalls_tau_and_what_noise_allows() -> None:
    assert kendall_text(0.4, 0.8) == "0.400 (a perfect one would reach about 0.80: measurements are noisy)"
    assert kendall_text(0.4, 0.0) == kendall_text(0.4, None) == "0.400"
