"""The training batches of `TrainBatches`, made on a GPU from images in its memory or from each batch's crops.

Cropping and resizing are two products with small matrices, one for the rows and one for the columns of each image. Each row of
such a matrix holds the weights of the crop's pixels for one pixel of the result (bilinear with antialias).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..resolutions import Resolution, height_width
from .batches import BRIGHTNESS, GREY, SATURATION, Draw, TrainBatches
from .originals import Indices

CHUNK = 1 << 28  # bytes copied at once: the most of the images that main memory holds
SHARE = 0.4  # of the device's free memory that the images may take


class DeviceBatches:
    """The batches of `batches` computed on `device`; pixels differ by at most one or two of 255 levels.

    Args:
        batches: the batches to compute.
        device: holds the images, about as many bytes as the cache on the disk.
        whole: copy all decoded images to the device now; else only `resized` works, on crops.
    """

    def __init__(self, batches: TrainBatches, device: torch.device, *, whole: bool = True) -> None:
        self.batches, self.device, pixels = batches, device, batches.images.store.pixels
        pixels = np.zeros(0, np.uint8) if pixels is None or not whole else pixels
        on_device = torch.empty(len(pixels), dtype=torch.uint8, device=device)
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK].copy()  # a mapped file cannot be written to, which torch warns of
            on_device[start : start + len(part)].copy_(torch.from_numpy(part))
        self._channels = batches.images.part.how.channels
        self._pixels = on_device.view(-1, self._channels)  # of all images
        self._labels = torch.from_numpy(batches.images.labels).to(device)
        mean, std = (torch.tensor(values, device=device) for values in (batches.preprocessing.mean, batches.preprocessing.std))
        self._scale, self._shift = 1 / (255 * std), mean / std  # from [0, 255] to the network's input
        self._grey = torch.tensor(GREY, device=device)

    @staticmethod
    def fits(batches: TrainBatches, device: torch.device) -> bool:
        """Whether a CUDA device has the memory for the images."""
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch keeps what was freed
        return batches.images.store.bytes <= SHARE * (free + unused)

    def batch(self, step: int, resolution: Resolution) -> tuple[Tensor, Tensor]:
        """Images (n, c, height, width) float32, channels-last, and labels as `TrainBatches.batch` gives, on the device."""
        draw, images = self.batches.draw(step), self.batches.images
        starts, widths = images.store.index[images.rows[draw.chosen], 1] // self._channels, images.shapes[draw.chosen, 1]
        return self._made(draw, self._pixels, starts, widths, draw.boxes, resolution)

    def resized(self, draw: Draw, crops: Sequence[NDArray[np.uint8]], resolution: Resolution) -> tuple[Tensor, Tensor]:
        """The batch made from these crops, equal to that of `batch`."""
        boxes = draw.boxes * (0, 0, 1, 1)  # from each crop's own corner
        pixels = torch.from_numpy(np.concatenate([crop.reshape(-1, self._channels) for crop in crops]))
        starts = np.cumsum([0, *(boxes[:-1, 2] * boxes[:-1, 3])])
        return self._made(draw, self._sent(pixels), starts, boxes[:, 3], boxes, resolution)

    def _made(
        self, draw: Draw, pixels: Tensor, starts: Indices, widths: Indices, boxes: Indices, resolution: Resolution
    ) -> tuple[Tensor, Tensor]:
        """The batch from the boxes of the images that begin at `starts` in `pixels` and have rows of these widths."""
        n, (tall, wide), channels = len(draw.chosen), boxes[:, 2:].max(0).tolist(), self._channels
        new_height, new_width = height_width(resolution)
        # random choices and image positions in one copy, as float64, which is exact for whole numbers below 2^53
        packed = np.stack([draw.chosen, starts, widths, draw.flips, *boxes.T, *draw.colour.reshape(2, -1)]).astype(np.float64)
        drawn = self._sent(torch.from_numpy(packed))
        chosen, first, stride, flips, top, left, height, width = drawn[:8].long()
        rows = (top[:, None] + torch.arange(tall, device=self.device)).minimum((top + height - 1)[:, None])
        columns = (left[:, None] + torch.arange(wide, device=self.device)).minimum((left + width - 1)[:, None])
        where = (first[:, None] + rows * stride[:, None])[:, :, None] + columns[:, None]
        crops = pixels[where.reshape(-1)].view(n, tall, channels * wide).float()
        across = resize_weights(width, wide, new_width)
        across = torch.where(flips.bool()[:, None, None], across.flip(1), across)
        x = torch.bmm(resize_weights(height, tall, new_height), crops).view(n, new_height, wide, channels)
        # the columns of all rows and channels at once: multiplied row by row, torch would copy the weights for each row
        x = torch.bmm(across, x.permute(0, 2, 1, 3).reshape(n, wide, new_height * channels))
        x = x.view(n, new_width, new_height, channels).permute(0, 2, 1, 3).contiguous().round_()
        if self.batches.augment.colour:
            x = jitter(x, drawn[8:].float()[:, :, None, None, None], self._grey)
        x = x.mul_(self._scale).sub_(self._shift)
        return self.batches.finished(x.permute(0, 3, 1, 2), self._labels[chosen], draw)

    def _sent(self, tensor: Tensor) -> Tensor:
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)


def resize_weights(sizes: Tensor, span: int, resolution: int) -> Tensor:
    """Weights of each image's old pixels for each new pixel: bilinear, with antialias when shrinking.

    Args:
        sizes: (n,) number of old pixels of each image.
        span: columns of the result, at least the largest size; columns beyond an image's size are zero.
        resolution: number of new pixels.

    Returns:
        (n, resolution, span) float32; every row sums to 1.
    """
    old = torch.arange(span, device=sizes.device) + 0.5
    scale = (sizes / resolution)[:, None]
    centres = (torch.arange(resolution, device=sizes.device) + 0.5) * scale
    distance = (old - centres[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]
    weights = (1 - distance).clamp_(min=0) * (old < sizes[:, None])[:, None]
    return weights / weights.sum(2, keepdim=True)


def jitter(pixels: Tensor, spread: Tensor, grey_of: Tensor) -> Tensor:
    """Change brightness and saturation of each image; (n, r, r, c) in [0, 255], spread (2, n, 1, 1, 1), grey_of (3,).

    Gray images have no saturation; an alpha channel is not changed.
    """
    if pixels.shape[3] == 4:
        return torch.cat([jitter(pixels[..., :3], spread, grey_of), pixels[..., 3:]], 3)
    light, colour = (1 + BRIGHTNESS * spread[0]).clamp(min=0), (1 + SATURATION * spread[1]).clamp(min=0)
    grey = pixels if pixels.shape[3] == 1 else (pixels @ grey_of)[..., None]
    return (pixels * (light * colour) + grey * (light * (1 - colour))).clamp_(0, 255)
