import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from onceforall.data.originals import Load, Original, quiet, shrink
from onceforall.errors import DataError
from onceforall.preprocess import FOUND

WIDTH, HEIGHT = 40, 24


def decode(original: Original, name: str, **options: int) -> Image.Image:
    return Load(original, name)(**options)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with quiet():
        yield


def smooth(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([x * 6, y * 10, 255 - x * 6], -1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(image: Image.Image, expected: Image.Image) -> float:
    return float(np.abs(np.asarray(image, np.float64) - np.asarray(expected.convert("RGB"), np.float64)).mean())


KINDS = ("PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG")


@pytest.mark.parametrize(("kind", "mode"), [*product(KINDS, ("RGB", "L", "1")), *product(KINDS[:4], "P")])
def test_formats_and_modes(kind: str, mode: str) -> None:
    image = smooth(mode)
    result = decode(encoded(image, kind), "x")
    assert result.mode == "RGB"
    assert result.size == (WIDTH, HEIGHT)
    tolerance = {"JPEG": 40, "WEBP": 40}.get(kind, 8 if kind == "GIF" else 0)
    assert difference(result, image) <= tolerance


def test_cmyk_jpeg_keeps_its_colours() -> None:
    for colour in ((200, 30, 40), (20, 180, 60), (250, 250, 245)):
        image = Image.new("RGB", (16, 16), colour).convert("CMYK")
        assert difference(decode(encoded(image, "JPEG", quality=95), "x"), Image.new("RGB", (16, 16), colour)) < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    data = encoded(image.convert("P"), "PNG", transparency=0) if mode == "P" else encoded(image.convert(mode), "PNG")
    pixels = np.asarray(decode(data, "x"))
    if mode == "P":
        assert (pixels == 255).any()
    else:
        assert (pixels[:, :4] == 0).all()
        assert (pixels[:, 4:] == 255).all()


def test_rgb_png_with_a_transparent_colour() -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    assert np.asarray(decode(encoded(image, "PNG", transparency=(10, 20, 30)), "x")).min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(kind: str) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = np.asarray(decode(encoded(Image.fromarray(values), kind), "x"))
    assert pixels[..., 0].ravel().tolist() == list(range(256))
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_floating_point_pixels_are_refused_by_name() -> None:
    data = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match=r"^scan\.tif: pixels of type F have no known range: save it with 8 or 16 bits"):
        decode(data, "scan.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(), kind, exif=exif.tobytes())
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    result = decode(data, "x")
    assert result.size == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    assert difference(result, expected) == 0


def test_broken_exif_does_not_cost_the_image() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"PIL\b")
        data = encoded(smooth(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage")
        assert decode(data, "x").size == (WIDTH, HEIGHT)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(data, "x"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "MPO"])
def test_frames_that_are_not_used_are_counted(kind: str) -> None:
    """Other pictures in a JPEG are previews of it."""
    single = decode(encoded(smooth(), "JPEG" if kind == "MPO" else kind), "x")
    several = decode(encoded(smooth(), kind, save_all=True, append_images=[smooth().rotate(180)]), "x")
    assert "frames" not in single.info[FOUND]
    assert several.info[FOUND].get("frames", False) == (kind != "MPO")
    assert difference(single, several) < 5, "of WEBP, which loses something; those of the other frame are far off"


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size() -> None:
    data = encoded(smooth().resize((800, 480)), "JPEG")
    assert decode(data, "x", at_least=32).size == (200, 120)
    assert decode(data, "x").size == (800, 480)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.jpg: empty"),
        (b"<html>not found</html>", "a.jpg: an HTML page instead of an image"),
        (encoded(smooth(), "JPEG")[:300], "a.jpg: cannot be decoded"),
        (encoded(smooth(), "PNG")[:60], "a.jpg: cannot be decoded"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a.jpg: a Git LFS pointer instead of the image: git lfs",
        ),
        (b"<!DOCTYPE html>\n<html>404", "a.jpg: an HTML page instead of an image: download it again"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.jpg: not an image of a supported kind"),
    ],
)
def test_bad_bytes_are_named(data: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        decode(data, "a.jpg")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_missing_unreadable_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file"):
        decode(tmp_path / "gone.jpg", "gone")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match="folder"):
        decode(tmp_path / "folder.jpg", "folder")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match="empty: empty"):
        decode(tmp_path / "empty.jpg", "empty")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused_before_they_are_unpacked(side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"bomb\.png: .*decompression bomb"):
        decode(data, "bomb.png")


SEEDS = [
    encoded(smooth(), "JPEG"),
    encoded(smooth("CMYK"), "JPEG"),
    encoded(smooth("L"), "JPEG", progressive=True),
    encoded(smooth(), "PNG"),
    encoded(smooth("P"), "PNG"),
    encoded(smooth(), "GIF"),
    encoded(smooth(), "WEBP"),
    encoded(smooth(), "TIFF", compression="tiff_lzw"),
    encoded(smooth(), "BMP"),
]


@given(
    data=st.sampled_from(SEEDS),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
)
def test_damaged_files_decode_or_are_named(data: bytes, cut: float, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(data[: int(cut * len(data)) + 1])
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        mode, message = decode(bytes(damaged), "x", at_least=16).mode, "x: "
    except DataError as error:
        mode, message = "RGB", str(error)
    assert mode == "RGB"
    assert message.startswith("x: ")
    assert "\n" not in message


@given(width=st.integers(1, 300), height=st.integers(1, 300), size=st.integers(8, 64))
def test_shrink_bounds_both_sides(width: int, height: int, size: int) -> None:
    result = shrink(Image.new("RGB", (width, height)), size)
    short, long = sorted(result.size)
    assert short == min(width, height, size)
    assert long <= 2 * short
    if long < 2 * short - 1:
        assert result.size[0] / result.size[1] == pytest.approx(width / height, rel=1.5 / short)


def test_shrink_keeps_the_middle() -> None:
    image = Image.new("RGB", (90, 10))
    image.paste((255, 255, 255), (40, 0, 50, 10))
    pixels = np.asarray(shrink(image, 16))
    assert pixels.shape == (10, 20, 3)
    assert (pixels[:, 5:15] == 255).all()
    assert (pixels[:, :5] == 0).all()
