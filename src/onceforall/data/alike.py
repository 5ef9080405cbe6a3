"""Near duplicates: copies in another size, format or brightness, exposures of one object, neighboring frames.

Images are compared by the correlation of gray 16 × 16 thumbnails with zero mean and unit length. On Flowers-17, white blood cells
and magnetic tiles, 90 % of the images correlate with their copy by at least 0.999 after JPEG at quality 50, 0.996 at half the size,
and 0.98 to 0.996 at 1.2 times the brightness; among 298 blood cells and 1,998 satellite images, only two different ones exceed
0.99. `splits` finds images with equal pixels.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_PIXELS = 32  # short side below which thumbnails cannot tell images apart
LEAST_CORRELATION = 0.99
FLAT = 4.0  # standard deviation of a thumbnail's gray levels (0 to 255) below which only noise is left
SIDE = 16
MOST_KNOWN = 200_000  # with more training images, nothing is compared
MOST = 4_000  # images of a split that are compared; with 100,000 others this takes 10 seconds on one core

Thumbnails = NDArray[np.float32]


def thumbnails(images: Iterable[NDArray[np.uint8]]) -> Thumbnails:
    """Thumbnails (n, 256) of images (height, width, channels), ignoring alpha; zeros for images too small or flat to compare."""
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
    """Pairs (i, j): image i of `wanted` has a near duplicate in `among`, and image j is the most similar one there."""
    found = []
    for start in range(0, len(wanted) if len(among) else 0, at_once):
        correlations = wanted[start : start + at_once] @ among.T
        best = correlations.argmax(1)
        for i in np.flatnonzero(correlations[np.arange(len(best)), best] >= LEAST_CORRELATION):
            found.append((start + int(i), int(best[i])))
    return found
