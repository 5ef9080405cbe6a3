"""Turn a photograph into a network's input, with numpy and Pillow alone.

onceforall decodes and evaluates images with this file and puts a copy of it next to every exported network, so deployments see the
same pixels. Python 3.8, numpy 1.20 and Pillow 9.4 suffice.

    config = json.loads(Path("config.json").read_text(encoding="utf-8"))
    x = prepare("photo.jpg", config["preprocessing"])  # (1, channels, height, width) float32

Every photograph (of several frames, the first) becomes 8-bit RGB, upright (EXIF), with transparent parts over white. Colors
are used as stored: like torchvision, it does not apply ICC profiles. Gray images of more than 8 bits are scaled to 8, from 16 bits
or from a given range of values. If `mean` and `std` have one number, the image becomes its luminance (ITU-R 601-2; gray images are
unchanged); if they have four, it becomes red, green, blue and alpha, which is 255 if the file has none. Then the whole image is
resized once to a short side of ceil(resolution / crop_share), bilinear or as the weights expect it, with antialias, followed by the
center crop and (pixel / 255 - mean) / std. A resolution is the side of a square, or text such as HEIGHTxWIDTH.
"""

import io
import struct
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageChops, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
OF_FRAMES = ("PNG", "GIF", "WEBP", "TIFF", "AVIF")  # other pictures in a JPEG (MPO) are previews, depth or brightness
LARGE = 89_478_485  # pixels of an image in memory, which takes 4 bytes for each: Pillow's own limit
LARGEST_JPEG = 300_000_000  # larger ones are decoded at a half, quarter or eighth of their size, which takes less memory
WHOLE = 2**25  # pixels of a resized image before it is cropped; only very elongated images have more
LEAST_SHARE = 0.5  # smallest share of the short side that a center crop may keep
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")  # Pillow's, with antialias
CHANNELS = (1, 3, 4)
FOUND = "onceforall"  # key in an image's `info` for what `to_channels` found, to report to the user


class _RefusedError(ValueError):
    """Our own refusal of an image, distinct from Pillow's ValueErrors."""


def prepare(
    file: Union[str, Path, bytes, BinaryIO], preprocessing: Mapping[str, Any], resolution: Union[int, str, None] = None
) -> "np.ndarray[Any, Any]":
    """Convert a photograph to a network's input (1, channels, height, width) float32.

    Args:
        file: a path, the file's content, or an open binary file.
        preprocessing: `preprocessing` in config.json (in a bundle: in `config` of bundle.json), with a mean for each channel.
        resolution: the network's resolution, if `preprocessing` lacks it, see `fit`.

    Raises:
        ValueError: the file cannot be read; the message says why.
    """
    return prepare_loaded(load_for(file, preprocessing), preprocessing, resolution)


def load_for(file: Union[str, Path, bytes, BinaryIO], preprocessing: Mapping[str, Any]) -> Image.Image:
    """The first step of `prepare`: the whole image, see `load`."""
    steps, channels = preprocessing, len(preprocessing["mean"])
    return load(file, max_pixels=steps.get("max_pixels"), channels=channels, range=steps.get("range"))


def prepare_loaded(
    image: Image.Image, preprocessing: Mapping[str, Any], resolution: Union[int, str, None] = None
) -> "np.ndarray[Any, Any]":
    """The other steps of `prepare`."""
    size = preprocessing["resolution"] if resolution is None else resolution
    fitted = fit(image, size, preprocessing["crop_share"], preprocessing.get("interpolation", "bilinear"))
    return np.ascontiguousarray(normalise(pixels_of(fitted)[None], preprocessing["mean"], preprocessing["std"]))


def load(
    file: Union[str, Path, bytes, BinaryIO],
    *,
    max_pixels: Optional[int] = None,
    at_least: Optional[int] = None,
    channels: int = 3,
    range: Optional[Sequence[float]] = None,
) -> Image.Image:
    """Load an image upright with 8 bits per channel, see `to_channels`; of an animation, the first frame.

    A JPEG of more than `LARGE` pixels is decoded at the half, quarter or eighth of its size that has fewer, any other in full: at a
    fraction, pixels of real photographs differed by 0.4 to 2.2 of 255 levels on average, and by up to 114 (docs/export.md).

    Args:
        file: path, content, or an open binary file.
        max_pixels: reject larger images, since a small file can claim any size; None for `LARGEST_JPEG` for a JPEG, else `LARGE`.
        at_least: a sufficient short side, so that a JPEG may be decoded smaller; None to evaluate.
        channels: one of `CHANNELS`.
        range: see `to_channels`.

    Raises:
        ValueError: missing, not an image, truncated, corrupt, too large, of a pixel type without a known range, or with a range in
            16 bits a color, of which only 8 are read.
    """
    try:
        if isinstance(file, (str, Path)):
            with open(file, "rb") as opened:
                return _load(opened, max_pixels, at_least, channels, range)
        return _load(io.BytesIO(file) if isinstance(file, bytes) else file, max_pixels, at_least, channels, range)
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except PermissionError:
        raise ValueError("permission denied") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise ValueError(f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from error


def fit(image: Image.Image, resolution: Union[int, str], crop_share: float, interpolation: str = "bilinear") -> Image.Image:
    """One resize to a short side of ceil(resolution / crop_share), and the center crop of resolution × resolution pixels.

    A resolution that is not square is text, HEIGHTxWIDTH: the image is resized such that it just covers ceil(HEIGHT /
    crop_share) × ceil(WIDTH / crop_share) pixels, and cropped to HEIGHT × WIDTH, by the same rule. Sizes and crop are rounded as in
    torchvision's `Resize` and `CenterCrop`, with identical pixels. `interpolation` is one of `INTERPOLATIONS`.

    Raises:
        ValueError: an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r}: choose from {', '.join(INTERPOLATIONS)}")
    filter = Image.Resampling[interpolation.upper()]
    sides = resolution.split("x") if isinstance(resolution, str) else [resolution]
    tall, wide = int(sides[0]), int(sides[-1])
    (width, height), least_down, least_across = image.size, ceil(tall / crop_share), ceil(wide / crop_share)
    if least_down * width >= least_across * height:  # its height decides, as for a square resolution where it is the short side
        across, down = least_down * width // height, least_down
    else:
        across, down = least_across, least_across * height // width
    left, top = round((across - wide) / 2), round((down - tall) / 2)
    if across * down <= WHOLE:
        whole = image.resize((across, down), filter)
        return whole.crop((left, top, left + wide, top + tall))
    x, y = width / across, height / down  # resizing only the crop differs by at most one of 255 levels
    box = (left * x, top * y, (left + wide) * x, (top + tall) * y)
    return image.resize((wide, tall), filter, box=box)


def pixels_of(image: Image.Image) -> "np.ndarray[Any, Any]":
    """(height, width, channels) uint8."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def normalise(pixels: "np.ndarray[Any, Any]", mean: Sequence[float], std: Sequence[float]) -> "np.ndarray[Any, Any]":
    """(n, height, width, c) in [0, 255] → (n, c, height, width) float32, (pixel / 255 - mean) / std. Overwrites float32 pixels."""
    n, height, width, channels = pixels.shape
    means, stds = np.array(mean, np.float32), np.array(std, np.float32)
    # a row of all channels at a time: 7× faster than broadcasting over 3 numbers
    rows = np.ascontiguousarray(pixels, np.float32).reshape(n, height, channels * width)
    rows *= np.tile(1 / (255 * stds), width)
    rows += np.tile(-means / stds, width)
    return rows.reshape(n, height, width, channels).transpose(0, 3, 1, 2)


def to_channels(image: Image.Image, channels: int = 3, range: Optional[Sequence[float]] = None) -> Image.Image:
    """Convert any Pillow image to one, three or four channels of 8 bits each, in mode L, RGB or RGBX.

    Three are RGB, with transparent parts over white; one is their luminance; four are red, green, blue and alpha as independent
    channels, in mode RGBX, since Pillow would multiply colors by alpha when resizing RGBA.

    Args:
        image: an opened and loaded image.
        channels: number of channels.
        range: values (low, high) of a gray image of more than 8 bits to map to 0 and 255; other values are clipped. None for
            (0, 65535).

    Raises:
        ValueError: a pixel type with unknown range (floating point, or integers of more than 16 bits).
    """
    found = {}
    if image.mode == "F" or image.mode.startswith("I"):
        image, found["most"] = _with_8_bits(image, range)
    if channels == 4:
        found["opaque"] = not _transparent(image)
        result = Image.merge("RGBX", image.convert("RGBA").split())
    elif _transparent(image):
        layer = image.convert("RGBA")
        result = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif channels == 1 and image.mode == "L":
        result = image
    else:
        result = image if image.mode == "RGB" else image.convert("RGB")
    if channels == 1 and result.mode == "RGB":
        red, green, blue = result.split()
        found["colour"] = any(ImageChops.difference(red, other).getbbox() for other in (green, blue))
        result = result.convert("L")
    result.info[FOUND] = found
    return result


def channels_in_words(channels: int, range: Optional[Sequence[float]] = None) -> str:
    """What images are converted to, as text."""
    kind = {1: "gray, one channel", 3: "RGB"}.get(channels, "RGB and alpha, four channels")
    return kind if range is None else f"{kind}, values of more than 8 bits from {range[0]:g} to {range[1]:g}"


def _with_8_bits(image: Image.Image, range: Optional[Sequence[float]]) -> Tuple[Image.Image, float]:
    """A gray image, with alpha where one value stands for transparent pixels, and its highest value."""
    values = np.asarray(image)
    if range is not None:
        low, high = range
        scaled = np.nan_to_num((values - np.float64(low)) * (255 / (high - low)))
        gray = (np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)
    elif image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise _RefusedError(
            f"pixels of type {image.mode} have no known range: save it with 8 or 16 bits per channel, or say which values are "
            "black and white (--range LOW,HIGH)"
        )
    else:
        gray = (values.astype(np.float32) / 257 + 0.5).astype(np.uint8)
    made, clear = Image.fromarray(gray), image.info.get("transparency")
    if isinstance(clear, int):
        made = Image.merge("LA", (made, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))
    return made, float(np.nan_to_num(values.max()))


def _load(
    file: BinaryIO, max_pixels: Optional[int], at_least: Optional[int], channels: int, range: Optional[Sequence[float]]
) -> Image.Image:
    with _open(file) as image:
        width, height = image.size
        jpeg = image.format in ("JPEG", "MPO")
        most = max_pixels or (LARGEST_JPEG if jpeg else LARGE)
        if width * height > most:
            raise _RefusedError(f"{width}×{height} pixels, more than the limit of {most:,} (a decompression bomb?): see max_pixels")
        if range is not None and not image.mode.startswith("I") and ";16" in str(vars(image).get("tile")):
            raise _RefusedError("16 bits for each of several channels, of which only 8 are read: a range is for gray images")
        if jpeg:
            share = next((share for share in (1, 2, 4) if width * height <= share * share * LARGE), 8)
            enough = max(width, height) if at_least is None else 2 * at_least
            image.draft(None, (min(enough, width // share), min(enough, height // share)))
        image.load()
        try:
            ImageOps.exif_transpose(image, in_place=True)  # after the pixels: EXIF may come after them, or be applied by Pillow
        except MemoryError:
            raise
        except Exception:  # broken EXIF in a readable image: keep its orientation
            pass
        result = to_channels(image, channels, range)
        if image.format in OF_FRAMES and image.is_animated:  # type: ignore[attr-defined]  # only these have it
            result.info[FOUND]["frames"] = True
        return result


def _open(file: BinaryIO) -> Image.Image:
    """Like `Image.open`, without its limit of pixels, which is global for the process."""
    file.seek(0)
    prefix = file.read(16)
    for name in _formats():
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(prefix)
        if accepted and not isinstance(accepted, str):  # a string says why Pillow cannot read it
            try:
                file.seek(0)
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
                continue
    known = ", ".join(_formats())
    what = f"not an image of a supported kind ({known})"
    if prefix.startswith(b"version https://"):
        what = "a Git LFS pointer instead of the image: git lfs pull downloads it"
    elif prefix.lower().startswith((b"<!doctype html", b"<html")):
        what = "an HTML page instead of an image: download it again"
    raise _RefusedError(what if prefix else "empty")


@lru_cache(maxsize=None)
def _formats() -> Tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _transparent(image: Image.Image) -> bool:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
