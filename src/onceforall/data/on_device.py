"""The training batches of `TrainBatches`, made on a GPU from images that lie in its memory.

Cropping and resizing are two products with small matrices, one for the rows and one for the columns of each image: every row of
such a matrix holds the weights with which one pixel of the result takes the pixels of the crop (bilinear with antialias).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .batches import BRIGHTNESS, GREY, SATURATION, TrainBatches

__all__ = ["DeviceBatches"]

CHUNK = 1 << 28  # bytes copied at once: main memory never holds more of the images
SHARE = 0.4  # of the device's free memory that the images may take


@dataclass(frozen=True, eq=False)
class DeviceBatches:
    """The same images, crops, mirrorings and colours as `batches` gives, to one or two of 255 levels, on `device`.

    Args:
        batches: says what is drawn.
        device: that keeps the images, about as many bytes as the cache on the disk.
    """

    batches: TrainBatches
    device: torch.device
    _pixels: Tensor = field(init=False)  # (all pixels of all images, 3) uint8
    _labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        pixels = self.batches.images.store.pixels
        on_device = torch.empty(len(pixels), dtype=torch.uint8, device=self.device)
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK].copy()  # a mapped file cannot be written to, which torch warns of
            on_device[start : start + len(part)].copy_(torch.from_numpy(part))
        object.__setattr__(self, "_pixels", on_device.view(-1, 3))
        object.__setattr__(self, "_labels", torch.from_numpy(self.batches.images.labels).to(self.device))

    @staticmethod
    def fits(batches: TrainBatches, device: torch.device) -> bool:
        """Whether a CUDA device has the memory."""
        free, _ = torch.cuda.mem_get_info(device)
        return len(batches.images.store.pixels) <= SHARE * free

    def batch(self, step: int, resolution: int) -> tuple[Tensor, Tensor]:
        """Images (n, 3, resolution, resolution) float32, channels-last, and labels (n,) int64, of batch `step`, on the device."""
        draw, images = self.batches.draw(step), self.batches.images
        widths = images.shapes[draw.chosen, 1]
        starts = images.store.index[images.rows[draw.chosen], 1] // 3
        top, left, height, width = (self._put(column) for column in draw.boxes.T)
        tall, wide = draw.boxes[:, 2:].max(0).tolist()
        rows = (top[:, None] + torch.arange(tall, device=self.device)).minimum((top + height - 1)[:, None])
        columns = (left[:, None] + torch.arange(wide, device=self.device)).minimum((left + width - 1)[:, None])
        where = (self._put(starts)[:, None] + rows * self._put(widths)[:, None])[:, :, None] + columns[:, None]
        crops = self._pixels[where.reshape(-1)].view(len(where), tall, 3 * wide).float()
        across = resize_weights(width, wide, resolution)
        across = torch.where(self._put(draw.flips)[:, None, None], across.flip(1), across)
        x = torch.bmm(resize_weights(height, tall, resolution), crops).view(-1, resolution, wide, 3)
        x = torch.matmul(across[:, None], x).round_()
        if self.batches.augment.colour:
            x = jitter(x, self._put(draw.colour))
        mean, std = (torch.tensor(values, device=self.device) for values in self._moments())
        x = x.mul_(1 / (255 * std)).sub_(mean / std)
        return x.permute(0, 3, 1, 2), self._labels[self._put(draw.chosen)]

    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.batches.preprocessing.mean, self.batches.preprocessing.std

    def _put(self, values: object) -> Tensor:
        return torch.as_tensor(values).to(self.device, non_blocking=True)


def resize_weights(sizes: Tensor, span: int, resolution: int) -> Tensor:
    """What each of `resolution` new pixels takes of each of the first `sizes` old ones: bilinear, with antialias when it shrinks.

    Args:
        sizes: (n,) old pixels of each image.
        span: columns of the result, at least as many as the largest size; those beyond an image's size are zero.
        resolution: new pixels.

    Returns:
        (n, resolution, span) float32; every row sums to 1.
    """
    old = torch.arange(span, device=sizes.device) + 0.5
    scale = (sizes / resolution)[:, None]
    centres = (torch.arange(resolution, device=sizes.device) + 0.5) * scale
    distance = (old - centres[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]
    weights = (1 - distance).clamp_(min=0) * (old < sizes[:, None])[:, None]
    return weights / weights.sum(2, keepdim=True)


def jitter(pixels: Tensor, spread: Tensor) -> Tensor:
    """Change brightness and saturation image by image; (n, r, r, 3) in [0, 255], spread (2, n, 1, 1, 1)."""
    light, colour = (1 + BRIGHTNESS * spread[0]).clamp(min=0), (1 + SATURATION * spread[1]).clamp(min=0)
    grey = (pixels @ torch.tensor(GREY, device=pixels.device))[..., None]
    return (pixels * (light * colour) + grey * (light * (1 - colour))).clamp_(0, 255)
