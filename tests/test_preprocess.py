"""The one preprocessing, against torchvision and for every kind of file; it runs where only numpy and Pillow are."""

import ast
import io
import json
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from kinds_of_images import KINDS, encoded, sixteen_bit, smooth
from onceforall import preprocess
from onceforall.preprocess import INTERPOLATIONS, LARGE, LARGEST_JPEG, fit, load, normalise, prepare

SOURCE = Path(preprocess.__file__)
STEPS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_share": 0.875}


def by_torchvision(image: Image.Image, resolution: int, crop_share: float, how: str = "bilinear") -> np.ndarray:
    resize = v2.Resize(ceil(resolution / crop_share), v2.InterpolationMode(how), antialias=True)
    transform = v2.Compose([resize, v2.CenterCrop(resolution)])
    return np.asarray(transform(image))


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    resolution=st.integers(1, 80),
    crop_share=st.sampled_from([0.5, 0.875, 0.9, 1.0]),
    how=st.sampled_from(INTERPOLATIONS),
)
@example(width=1, height=1, resolution=32, crop_share=0.875, how="bilinear")
@example(width=1, height=500, resolution=32, crop_share=0.875, how="bicubic")
@example(width=500, height=1, resolution=17, crop_share=0.875, how="lanczos")
def test_fit_gives_the_pixels_of_torchvision(width: int, height: int, resolution: int, crop_share: float, how: str) -> None:
    image = Image.fromarray(np.random.default_rng(width * 301 + height).integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = by_torchvision(image, resolution, crop_share, how)
    np.testing.assert_array_equal(np.asarray(fit(image, resolution, crop_share, how)), expected)
    if how == "bilinear":
        np.testing.assert_array_equal(np.asarray(fit(image, resolution, crop_share)), expected)


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    crop_share=st.sampled_from([0.5, 0.875, 1.0]),
    how=st.sampled_from(INTERPOLATIONS),
)
@example(size=(300, 2), height=16, width=64, crop_share=0.875, how="bilinear")
@example(size=(20, 20), height=20, width=20, crop_share=0.875, how="bicubic")
def test_a_rectangle_is_covered_and_cropped(size: tuple[int, int], height: int, width: int, crop_share: float, how: str) -> None:
    """By torchvision, of the least size that covers it; and of equal sides as of a square."""
    image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    down, across = ceil(height / crop_share), ceil(width / crop_share)
    scale = max(down / size[1], across / size[0])
    if down * size[0] >= across * size[1]:
        across = int(down * size[0] / size[1] + 1e-9)
    else:
        down = int(across * size[1] / size[0] + 1e-9)
    assert down == pytest.approx(scale * size[1], abs=1)
    resized = v2.functional.resize(image, [down, across], v2.InterpolationMode(how), antialias=True)
    expected = np.asarray(v2.functional.center_crop(resized, [height, width]))
    found = np.asarray(fit(image, f"{height}x{width}", crop_share, how))
    assert found.shape == (height, width, 3)
    np.testing.assert_array_equal(found, expected)
    if height == width:
        np.testing.assert_array_equal(found, np.asarray(fit(image, height, crop_share, how)))


@pytest.mark.parametrize("size", [(2, 900), (900, 2), (700, 9)])
def test_very_elongated_images_are_the_same_but_for_one_level(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    monkeypatch.setattr(preprocess, "WHOLE", 1)
    found, expected = np.asarray(fit(image, 24, 0.875), int), by_torchvision(image, 24, 0.875)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("wrong", ["nearest", "FOO", None])
def test_an_unknown_interpolation_is_one_line(wrong: object) -> None:
    image = io.BytesIO()
    Image.new("RGB", (9, 9)).save(image, "PNG")
    with pytest.raises(ValueError, match=r"interpolation .*: choose from bilinear, bicubic, lanczos"):
        prepare(image.getvalue(), {**STEPS, "interpolation": wrong}, 8)


def test_a_rectangle_of_an_endless_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 700, 3), dtype=np.uint8))
    expected = np.asarray(fit(image, "16x24", 0.875), int)
    monkeypatch.setattr(preprocess, "WHOLE", 1)
    assert np.abs(np.asarray(fit(image, "16x24", 0.875), int) - expected).max() <= 1


def test_an_endless_strip_takes_little_memory() -> None:
    assert fit(Image.new("RGB", (200_000, 1), "red"), 224, 0.875).getpixel((0, 0)) == (255, 0, 0)


def test_normalising_is_the_textbooks_to_the_last_digits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    expected = (pixels / 255 - np.array(STEPS["mean"])) / np.array(STEPS["std"])
    found = normalise(pixels, STEPS["mean"], STEPS["std"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_paths_bytes_and_open_files_are_alike(kind: str, tmp_path: Path) -> None:
    content = KINDS[kind]()
    path = tmp_path / "photo"
    path.write_bytes(content)
    x = prepare(content, STEPS, 24)
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((1, 3, 24, 24), np.float32, True)
    assert np.isfinite(x).all()
    with open(path, "rb") as file:
        for other in (path, str(path), file, io.BytesIO(content)):
            np.testing.assert_array_equal(prepare(other, STEPS, 24), x)
    np.testing.assert_array_equal(prepare(content, {**STEPS, "resolution": 24, "max_pixels": None}), x)


def pattern(alpha: bool) -> np.ndarray:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 30, 30, 255)
    return pixels if alpha else pixels[..., :3]


@pytest.mark.parametrize(
    ("make", "mean"),
    [
        (lambda: encoded(Image.fromarray(pattern(True)), "PNG"), 212.9),
        (lambda: encoded(Image.fromarray(pattern(True)), "WEBP", lossless=True), 212.9),
        (lambda: encoded(Image.fromarray(pattern(True)).quantize(8), "PNG", transparency=0), 212.9),
        (lambda: encoded(Image.fromarray(pattern(True)[..., [0, 3]].copy(), "LA"), "PNG"), 241.2),
        (lambda: encoded(Image.fromarray(np.full((64, 64), 0x8080, np.uint16)), "PNG"), 128),
        (lambda: encoded(Image.fromarray(np.full((64, 64), 7, np.uint16)), "PNG", transparency=7), 255),
    ],
    ids=["rgba", "webp", "palette", "la", "16 bit", "16 bit, transparent"],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_transparent_is_white_and_16_bits_are_scaled(make: Callable[[], bytes], mean: float) -> None:
    assert np.asarray(load(make())).mean() == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_channel_is_the_luminance_of_three(kind: str) -> None:
    content = KINDS[kind]()
    gray, colours = load(content, channels=1), load(content)
    assert gray.mode == "L"
    np.testing.assert_array_equal(np.asarray(gray), np.asarray(colours.convert("L")))
    steps = {**STEPS, "mean": [0.25], "std": [0.5], "resolution": 24}
    x = prepare(content, steps)
    assert x.shape == (1, 1, 24, 24)
    expected = np.asarray(fit(gray, 24, 0.875), np.float64)
    np.testing.assert_allclose(x[0, 0], (expected / 255 - 0.25) / 0.5, atol=1e-6)


@pytest.mark.parametrize("kind", ["rgba", "la", "palette", "palette, one colour transparent", "jpeg", "1 bit", "16 bit"])
def test_four_channels_are_colours_and_alpha_each_by_itself(kind: str) -> None:
    content = KINDS[kind]()
    image = load(content, channels=4)
    if kind == "16 bit":
        gray = np.asarray(load(content, channels=1))
        expected = np.stack([gray] * 3 + [np.full_like(gray, 255)], -1)
    else:
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    np.testing.assert_array_equal(np.asarray(image), expected)
    fitted = np.asarray(fit(image, 24, 0.875))
    for i in range(4):  # Pillow multiplies the colours of RGBA by alpha where it resizes
        np.testing.assert_array_equal(fitted[..., i], np.asarray(fit(Image.fromarray(expected[..., i].copy()), 24, 0.875)))
    x = prepare(content, {"mean": [0.1, 0.2, 0.3, 0.4], "std": [0.5] * 4, "crop_share": 0.875}, 24)
    np.testing.assert_allclose(x[0, 3], (fitted[..., 3] / 255 - 0.4) / 0.5, atol=1e-6)


@given(low=st.integers(-1000, 3000), width=st.integers(1, 70_000), seed=st.integers(0, 9))
@example(low=0, width=4095, seed=0)
@example(low=0, width=65535, seed=1)
def test_a_range_becomes_black_to_white(low: int, width: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 65536, (5, 7)).astype(np.uint16)
    expected = np.rint(np.clip((values.astype(np.float64) - low) / width, 0, 1) * 255)
    found = np.asarray(load(encoded(Image.fromarray(values), "PNG"), channels=1, range=(low, low + width)), np.float64)
    assert np.abs(found - expected).max() <= (0 if width % 2 else 1)  # exact halves are rounded up, rint's to even
    if (low, width) == (0, 65535):
        np.testing.assert_array_equal(found, np.asarray(load(encoded(Image.fromarray(values), "PNG"), channels=1)))


def test_a_range_is_for_gray_images_of_more_than_8_bits() -> None:
    floats = encoded(Image.fromarray(np.array([[-2.0, 0.5, np.nan], [3.0, 1.0, 0.0]], np.float32)), "TIFF")
    assert np.asarray(load(floats, channels=1, range=(0, 1))).tolist() == [[0, 128, 0], [255, 255, 0]]
    integers = encoded(Image.fromarray(np.array([[-1000, 400, 100_000]], np.int32)), "TIFF")
    assert np.asarray(load(integers, channels=1, range=(-1000, 400))).tolist() == [[0, 255, 255]]
    for kind in ("rgba", "jpeg", "jpeg, gray", "palette"):  # these have 8 bits
        np.testing.assert_array_equal(np.asarray(load(KINDS[kind](), range=(0, 4095))), np.asarray(load(KINDS[kind]())))
    header = (7).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])  # 7×7 pixels of three times 16 bits

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    rows = zlib.compress((b"\0" + bytes(42)) * 7)
    colours = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert load(colours).size == (7, 7)
    with pytest.raises(ValueError, match=r"^16 bits for each of several channels, of which only 8 are read"):
        load(colours, range=(0, 4095))


def test_one_value_that_is_transparent_is_white_in_a_range_too() -> None:
    content = encoded(sixteen_bit(), "PNG", transparency=22)
    assert np.asarray(load(content, channels=1, range=(0, 100)))[0, :3].tolist() == [0, 255, 112]
    assert np.asarray(load(content, channels=4, range=(0, 100)))[0, :3, 3].tolist() == [255, 0, 255]


def test_colour_profiles_are_not_applied() -> None:
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for colour in (b"rXYZ", b"gXYZ", b"bXYZ"):  # other primaries
        at = int.from_bytes(profile[(entry := profile.index(colour)) + 4 : entry + 8], "big")
        profile[at + 8 : at + 12] = (30_000).to_bytes(4, "big")
    with_profile = encoded(smooth(), "PNG", icc_profile=bytes(profile))
    np.testing.assert_array_equal(np.asarray(load(with_profile)), np.asarray(smooth()))


def claiming(width: int, height: int, jpeg: bytes) -> bytes:
    """The JPEG with another size in its header, so that it needs few bytes; what is missing is gray."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[at + 4 :]


def test_a_photograph_of_108_megapixels_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Image.MAX_IMAGE_PIXELS
    content = encoded(Image.linear_gradient("L").resize((12_000, 9_000), Image.Resampling.NEAREST), "JPEG", quality=30)
    image = load(content)
    assert image.size == (6_000, 4_500), "half the size has fewer than LARGE pixels"
    column = np.asarray(image)[:, 3_000, 0].astype(int)
    assert np.abs(column - np.linspace(0, 255, 4_500)).max() < 6
    assert load(content, at_least=100).size == (1_500, 1_125)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"^12000×9000 pixels, more than the limit of 100,000,000 .*: see max_pixels$"):
        load(content, max_pixels=100_000_000)


def test_limits_of_pixels() -> None:
    jpeg = encoded(smooth(), "JPEG")
    with pytest.raises(ValueError, match=rf"60000×60000 pixels, more than the limit of {LARGEST_JPEG:,} "):
        load(claiming(60_000, 60_000, jpeg))
    png = encoded(smooth(), "PNG")
    header = png.index(b"IHDR") + 4
    body = (20_000).to_bytes(4, "big") * 2 + png[header + 8 : header + 13]
    huge = png[:header] + body + zlib.crc32(b"IHDR" + body).to_bytes(4, "big") + png[header + 17 :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=rf"20000×20000 pixels, more than the limit of {LARGE:,} "):
            load(huge)
    width, height = smooth().size
    assert load(png, max_pixels=width * height).size == (width, height)
    with pytest.raises(ValueError, match=f"the limit of {width * height - 1:,} "):
        load(png, max_pixels=width * height - 1)


def test_what_cannot_be_read_is_a_value_error(tmp_path: Path) -> None:
    for file, message in (
        (tmp_path / "gone.jpg", "no such file"),
        (tmp_path, "cannot be decoded"),
        (b"", "empty"),
        (b"<htm>", "not an image of a supported kind"),
        (encoded(smooth(), "PNG")[:90], "cannot be decoded"),
        (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "pixels of type F have no known range"),
    ):
        with pytest.raises(ValueError, match=message):
            load(file)


def test_it_is_of_python_3_8_and_needs_numpy_and_pillow_alone() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in found if name.split(".")[0] not in sys.stdlib_module_names} == {"numpy", "PIL"}
    assert not any(node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    newer = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    newer += [
        node for node in ast.walk(tree) if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("list", "dict", "tuple")
    ]
    assert not newer, "types that Python 3.8 cannot evaluate"


def test_it_is_copied_and_run_alone(tmp_path: Path) -> None:
    (tmp_path / "preprocess.py").write_bytes(SOURCE.read_bytes())
    (tmp_path / "photo.png").write_bytes(KINDS["rgba"]())
    program = "import json, sys, preprocess, numpy as np\n"
    program += "np.save('x.npy', preprocess.prepare('photo.png', json.loads(sys.argv[1]), 24))\n"
    program += "assert not {'torch', 'onceforall'} & set(sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "error", "-c", program, json.dumps(STEPS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), prepare(KINDS["rgba"](), STEPS, 24))
