"""Random changes of training images beyond crops, mirroring and color, by torchvision: policies, erasing, mixing.

torchvision draws from torch's global generator. Here each draw has its own seed, and the generator's state is restored.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def by_policy(policy: str, images: NDArray[np.uint8], seeds: Sequence[int]) -> None:
    """Change each image (n, r, r, c) in place by a policy, TrivialAugment (2021) or RandAugment (2019), with default settings."""
    change = _policy(policy)
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            image[:] = change(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def erased(x: Tensor, share: float, seeds: Sequence[int]) -> None:
    """Erase (set to zero, the mean color) a random box in this share of the images (n, c, r, r), in place (Zhong et al., 2017)."""
    erase = _transforms().RandomErasing(share, inplace=True)
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(x, seeds, strict=True):
            torch.default_generator.manual_seed(seed + 1)
            erase(image)


def mixed(x: Tensor, labels: Tensor, classes: int, mixup: float, cutmix: float, seed: int) -> tuple[Tensor, Tensor]:
    """Mix images (n, c, r, r) with each other; labels (n,) or (n, classes) become shares of classes (n, classes).

    Args:
        x: the images.
        labels: of the images.
        classes: number of classes.
        mixup: α of the Beta distribution for blending images (Zhang et al., 2017); 0 for none.
        cutmix: α of the Beta distribution for pasting boxes (Yun et al., 2019); 0 for none. With both, each batch uses one.
        seed: of all random choices.
    """
    v2 = _transforms()
    targets = torch.arange(len(x), device=x.device) if labels.ndim == 2 else labels  # multi-label: mix by image
    count = len(x) if labels.ndim == 2 else classes
    mixers = [mixer(alpha=float(alpha), num_classes=count) for mixer, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        images, shares = mixers[int(torch.randint(len(mixers), ()))](x, targets)
    return images, shares @ labels if labels.ndim == 2 else shares


@lru_cache
def _policy(name: str) -> Any:
    v2 = _transforms()
    return {"trivial_augment": v2.TrivialAugmentWide, "rand_augment": v2.RandAugment}[name]()


def _transforms() -> Any:
    from torchvision.transforms import v2  # takes a second to load

    return v2
