"""One small file of each kind that users have, as bytes."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

__all__ = ["KINDS", "encoded", "smooth"]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def smooth(width: int = 61, height: int = 47) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 4, y * 5, 255 - x * 2 - y * 2], -1).astype(np.uint8))


def see_through(mode: str) -> Image.Image:
    image = smooth().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


def sixteen_bit() -> Image.Image:
    return Image.fromarray((np.arange(61 * 47, dtype=np.uint32).reshape(47, 61) * 22 % 65536).astype(np.uint16))


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(smooth(), kind, exif=exif.tobytes())


def animation(kind: str) -> bytes:
    frames = [smooth(), Image.new("RGB", smooth().size, "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def big_endian_tiff() -> bytes:
    """16-bit gray with the other order of bytes, which Pillow does not write."""
    values = np.asarray(sixteen_bit())
    height, width = values.shape
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
    ]
    entries.append((279, 4, values.nbytes))
    directory = len(entries).to_bytes(2, "big")
    for tag, kind, value in entries:
        field = value.to_bytes(2, "big") + b"\0\0" if kind == 3 else value.to_bytes(4, "big")
        directory += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + field
    start = 8 + values.nbytes
    return b"MM\0*" + start.to_bytes(4, "big") + values.astype(">u2").tobytes() + directory + bytes(4)


KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(smooth(), "JPEG", quality=90),
    "jpeg, large": lambda: encoded(smooth(400, 300), "JPEG", quality=90),
    "jpeg, progressive": lambda: encoded(smooth(), "JPEG", progressive=True),
    "jpeg, gray": lambda: encoded(smooth().convert("L"), "JPEG"),
    "jpeg, cmyk": lambda: encoded(smooth().convert("CMYK"), "JPEG"),
    "mpo": lambda: animation("MPO"),
    "gif": lambda: animation("GIF"),
    "webp, animated": lambda: animation("WEBP"),
    "webp, transparent": lambda: encoded(see_through("RGBA"), "WEBP", lossless=True),
    "rgba": lambda: encoded(see_through("RGBA"), "PNG"),
    "la": lambda: encoded(see_through("LA"), "PNG"),
    "palette": lambda: encoded(see_through("RGBA").quantize(16), "PNG"),
    "palette, one colour transparent": lambda: encoded(smooth().quantize(16), "PNG", transparency=3),
    "rgb, one colour transparent": lambda: encoded(smooth(), "PNG", transparency=smooth().getpixel((30, 20))),
    "1 bit": lambda: encoded(smooth().convert("1"), "PNG"),
    "16 bit": lambda: encoded(sixteen_bit(), "PNG"),
    "16 bit tiff": lambda: encoded(sixteen_bit(), "TIFF"),
    "16 bit tiff, big-endian": big_endian_tiff,
    "tiff": lambda: encoded(smooth(), "TIFF", compression="tiff_lzw"),
    "bmp": lambda: encoded(smooth(), "BMP"),
    "1×1": lambda: encoded(smooth(1, 1), "PNG"),
    "1×500": lambda: encoded(smooth(1, 500), "PNG"),
    "500×1": lambda: encoded(smooth(500, 1), "PNG"),
    "200×20": lambda: encoded(smooth(200, 20), "PNG"),
    **{f"jpeg, turned {i}": (lambda i=i: turned(i, "JPEG")) for i in range(1, 9)},
    **{f"tiff, turned {i}": (lambda i=i: turned(i, "TIFF")) for i in (3, 6)},
    **{f"png, turned {i}": (lambda i=i: turned(i, "PNG")) for i in (6, 7)},
}
