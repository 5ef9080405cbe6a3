"""Forward and backward of `supernet(x, arch)` against the plain extracted network with the same weights, in turns.

    python benchmarks/train_step.py [--family mobilenet_v3] [--width 1.0] [--resolution 128] [--batch 32] [--device cpu]
        [--precision float32] [--only largest middle]
    python benchmarks/train_step.py --model convnext_atto --batch 8   (timm's name, or torchvision's; with random weights)

Both are in channels-last format and in train mode, with cross-entropy; neither keeps running statistics. Gradients are dropped
before each pass. Printed is, for each sub-network, the median over the rounds of (supernet / extracted); the aim is 1.05 as the
median and 1.10 for any. With one thread on the CPU it is processor time that is compared, which other processes disturb less.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import torchvision
from torch.nn import functional as F

import onceforall
from onceforall import Arch, Space, Supernet
from onceforall.genes import canonical
from onceforall.supernets.conversion import elastic
from onceforall.train.step import PRECISIONS, in_precision

RANDOM = 8


def choose(space: Space, resolution: int) -> dict[str, Arch]:
    rng = np.random.default_rng(0)
    columns = space.columns
    middle = space.genes([space.largest(resolution)])
    for c, column in enumerate(columns):
        if column.kind != "resolution":
            middle[:, c] = len(column.choices) // 2
    drawn = [Arch(resolution, space.sample(rng).stages) for _ in range(RANDOM)]
    return {
        "largest": space.largest(resolution),
        "middle": space.archs(canonical(columns, middle))[0],
        "smallest": space.smallest(resolution),
        **{f"random {i + 1}": arch for i, arch in enumerate(drawn)},
    }


def without_statistics(network: torch.nn.Module) -> torch.nn.Module:
    """The supernet's batch norms keep no running statistics in training, so the plain network's must not either."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network


def model_of(name: str, resolution: int) -> torch.nn.Module:
    """timm's network of this name, else torchvision's."""
    try:
        import timm
    except ImportError:
        known = False
    else:
        known = timm.is_model(name)
    if known:
        size = {"img_size": resolution} if name.startswith(("vit", "deit")) else {}
        return timm.create_model(name, num_classes=10, **size)  # type: ignore[no-any-return]
    return torchvision.models.get_model(name, weights=None, num_classes=10)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="mobilenet_v3")
    parser.add_argument("--model", help="of timm or torchvision, in place of a family")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the sub-networks that are printed without it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if arguments.model:
        supernet = elastic(model_of(arguments.model, arguments.resolution), (arguments.resolution,)).to(device).train()
    else:
        supernet = Supernet(onceforall.space(arguments.family, width=arguments.width), 10).to(device).train()
    space = supernet.space
    images = torch.randn(arguments.batch, 3, arguments.resolution, arguments.resolution, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(arguments.batch, device=device) % 10

    clock = time.process_time if device.type == "cpu" and arguments.threads == 1 else time.perf_counter

    def seconds(call: torch.nn.Module, *more: Arch) -> float:
        for parameter in call.parameters():
            parameter.grad = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = clock()
        with in_precision(arguments.precision, device):
            logits = call(images, *more)
        F.cross_entropy(logits.float(), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - started

    shape = f"{arguments.resolution} px, batch {arguments.batch}, {arguments.threads} threads, {arguments.precision}"
    print(f"{arguments.model or f'{space.family}, width {arguments.width}'}, {shape}")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {arguments.rounds} rounds")
    ratios = {}
    for name, arch in choose(space, arguments.resolution).items():
        if arguments.only and name not in arguments.only:
            continue
        plain = without_statistics(supernet.extract(arch))
        pairs = []
        for number in range(arguments.rounds + 2):
            both = [lambda plain=plain: seconds(plain), lambda arch=arch: seconds(supernet, arch)]
            order = (0, 1) if number % 2 else (1, 0)
            found = {i: both[i]() for i in order}
            pairs.append((found[0], found[1]))
        ratios[name] = statistics.median(b / a for a, b in pairs[2:])
        print(
            f"{name:>10}: {1e3 * statistics.median(a for a, _ in pairs[2:]):7.1f} ms extracted, ratio {ratios[name]:.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios.values()):.3f}, largest {max(ratios.values()):.3f}")


if __name__ == "__main__":
    main()
