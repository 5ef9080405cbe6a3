"""Images that are nearly the same: copies in another size, format or brightness, exposures of one object, neighbouring frames.

They are compared by gray thumbnails of 16 × 16 pixels, less their mean and of unit length. Of Flowers-17, white blood cells and
magnetic tiles, JPEG at quality 50 leaves a correlation of 0.999 with the original (90 % of the images), half the size 0.996,
brightness × 1.2 0.98 to 0.996; of 298 blood cells and 1,998 satellite images two others come above 0.99. Equal pixels are another
matter, see `splits`.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_PIXELS = 32  # the short side of images that thumbnails can tell apart
LEAST_CORRELATION = 0.99
FLAT = 4.0  # standard deviation of a thumbnail's gray levels, of 255, below which what is left is noise
SIDE = 16
MOST_KNOWN = 200_000  # training images that they are compared with
MOST = 4_000  # images that are looked for; comparing them with 100,000 others takes 10 seconds of a core

Thumbnails = NDArray[np.float32]


def thumbnails(images: Iterable[NDArray[np.uint8]]) -> Thumbnails:
    """(n, 256) of images (height, width, channels), without alpha; zeros for those that are too small or too flat to tell."""
    found = []
    for pixels in images:
        gray = np.zeros(SIDE * SIDE, np.float32)
        if min(pixels.shape[:2]) >= LEAST_PIXELS:
            shown = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., :3]))
            small = shown.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
            gray = np.asarray(small, np.float32).ravel()
            gray = gray - gray.mean()
        length = np.linalg.norm(gray)
        found.append(gray / length if length >= FLAT * SIDE else np.zeros_like(gray))
    return np.stack(found) if found else np.zeros((0, SIDE * SIDE), np.float32)


def alike(wanted: Thumbnails, among: Thumbnails, *, at_once: int = 512) -> list[tuple[int, int]]:
    """For each of the first that is like one of the others, its place and that of the most like one."""
    found = []
    for start in range(0, len(wanted) if len(among) else 0, at_once):
        correlations = wanted[start : start + at_once] @ among.T
        best = correlations.argmax(1)
        for i in np.flatnonzero(correlations[np.arange(len(best)), best] >= LEAST_CORRELATION):
            found.append((start + int(i), int(best[i])))
    return found
