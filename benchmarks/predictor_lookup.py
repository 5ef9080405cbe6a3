"""Architectures per second of a published accuracy predictor, against a torch module with features built in Python.

    OMP_NUM_THREADS=1 python benchmarks/predictor_lookup.py FOLDER

FOLDER holds acc_predictor.pth and ofa_resnet50_acc_predictor.pth as published. `ours` predicts a gene matrix of 20,000 rows;
`torch` builds the inputs of 2,000 architectures one after the other from lists of kernels, ratios, depths and widths, and calls
the same layers once for all of them, without its time for making the architectures. Best of 5. Then the largest difference.

Two facts about the second predictor follow, in percentage points: mean accuracies of 4,000 random networks, the same at each known
resolution; and by how much two inputs for one network differ, of the two width multipliers that give the stem 24 channels.

Measured on one thread of an AMD EPYC (family 26, load average 3.5 of 2 cores), torch 2.15.0, numpy 2.4.6, n = 2 runs:

    acc_predictor.pth              ours   149,257/s   torch  29,101/s     5.1 times   differ by 6.0e-08
    ofa_resnet50_acc_predictor.pth ours 1,461,629/s   torch  37,750/s    38.7 times   differ by 6.0e-08
    acc_predictor.pth              ours   144,031/s   torch  26,015/s     5.5 times   differ by 6.0e-08
    ofa_resnet50_acc_predictor.pth ours 1,428,647/s   torch  36,910/s    38.7 times   differ by 6.0e-08
    means   128: 77.54  144: 79.44  160: 80.27  176: 80.88  192: 81.24  224: 81.87  240: 81.90  256: 81.84
    steps   +1.90  +0.84  +0.61  +0.36  +0.63  +0.02  -0.06
    stem    mean 0.0023, at most 0.0024 (n = 2,021)

The first is bound by its 371,600 multiplications. The second is quicker because training left most weights as denormals; without
them only 77, 57 and 176 of the 400 units of its layers do anything, and the others are left out when the file is read.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

import onceforall
from onceforall import Arch, Space
from onceforall.accuracy import AccuracyPredictor
from onceforall.nn.tensor_files import read_tensors
from onceforall.spaces.resnet50d import stage_widths

ROWS, FEW, PASSES, DRAWN = 20_000, 2_000, 5, 4_000
STEM_WIDTHS = slice(10, 13)  # inputs
MOBILE_SIZES, RESNET_SIZES = range(112, 225, 16), (128, 144, 160, 176, 192, 224, 240, 256)


def rate(n: int, run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return n / min(times)


def one_hot(choices: Sequence[float], value: float | None) -> list[float]:
    return [float(choice == value) for choice in choices]


def mobile_inputs(arch: Arch) -> list[float]:
    blocks = [stage.blocks[i] if i < stage.depth else None for stage in arch.stages for i in range(4)]
    x = [v for block in blocks for v in one_hot((3, 5, 7), block and block.kernel)]
    x += [v for block in blocks for v in one_hot((3, 4, 6), block and block.expand_ratio)]
    return x + one_hot(range(8), (arch.resolution - 112) // 16)


def resnet_inputs(arch: Arch) -> list[float]:
    x = one_hot(RESNET_SIZES, max(size for size in RESNET_SIZES if size <= arch.resolution)) + one_hot((1, 2), arch.stages[0].depth)
    for stage, widths in zip(arch.stages, WIDTHS, strict=True):
        x += one_hot(range(3), widths.index(stage.width))
    for stage, most in zip(arch.stages[2:], (4, 4, 6, 4), strict=True):
        for i in range(most):
            x += one_hot((0.2, 0.25, 0.35), stage.blocks[i].expand_ratio if i < stage.depth else None)
    return x


def network(path: Path) -> nn.Module:
    tensors = read_tensors(path)
    weights = [t for name, t in tensors.items() if name.endswith("weight")]
    biases = [t for name, t in tensors.items() if name.endswith("bias")] + [t for name, t in tensors.items() if name == "base_acc"]
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
        layers[-2].load_state_dict({"weight": weight, "bias": bias})
    return nn.Sequential(*layers[:-1])


SPACES: dict[str, tuple[Space, Callable[[Arch], list[float]]]] = {
    "acc_predictor.pth": (onceforall.space("mobilenet_v3", width=1.2), mobile_inputs),
    "ofa_resnet50_acc_predictor.pth": (onceforall.space("resnet50d"), resnet_inputs),
}
WIDTHS = stage_widths(SPACES["ofa_resnet50_acc_predictor.pth"][0].arguments)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    for name, (space, inputs) in SPACES.items():
        path = Path(arguments[0]) / name
        predictor, module = AccuracyPredictor.from_published(path, space), network(path)
        genes = space.sample_genes(np.random.default_rng(0), ROWS)
        archs = space.archs(genes[:FEW])

        def in_torch(
            archs: list[Arch] = archs, inputs: Callable[[Arch], list[float]] = inputs, module: nn.Module = module
        ) -> torch.Tensor:
            with torch.no_grad():
                return module(torch.tensor([inputs(arch) for arch in archs]))[:, 0]

        ours, theirs = rate(ROWS, lambda: predictor.predict(genes)), rate(FEW, in_torch)  # noqa: B023
        apart = np.abs(predictor.predict(archs) - in_torch().numpy()).max()
        print(f"{name:30} ours {ours:>9,.0f}/s   torch {theirs:>7,.0f}/s   {ours / theirs:5.1f} times   differ by {apart:.1e}")
    tell_facts(Path(arguments[0]) / "ofa_resnet50_acc_predictor.pth")


def tell_facts(path: Path) -> None:
    space, rng = onceforall.space("resnet50d", resolutions=RESNET_SIZES), np.random.default_rng(0)
    predictor, genes = AccuracyPredictor.from_published(path, space), space.sample_genes(rng, DRAWN)
    means = []
    for column in range(len(RESNET_SIZES)):
        genes[:, 0] = column
        means.append(100 * predictor.score(genes).mean())
    print("means  ", "  ".join(f"{size}: {mean:.2f}" for size, mean in zip(RESNET_SIZES, means, strict=True)))
    print("steps  ", "  ".join(f"{step:+.2f}" for step in np.diff(means)))

    archs = space.archs(space.sample_genes(rng, DRAWN))
    x = torch.tensor([resnet_inputs(arch) for arch in archs if arch.stages[0].width == WIDTHS[0][0]])
    other = x.clone()
    other[:, STEM_WIDTHS] = torch.tensor([0.0, 1.0, 0.0])
    with torch.no_grad():
        module = network(path)
        apart = 100 * (module(x) - module(other)).abs()
    print(f"stem    mean {apart.mean():.4f}, at most {apart.max():.4f} (n = {len(x):,})")


if __name__ == "__main__":
    main(sys.argv[1:])
