"""What training on ImageNet takes, computed from the presets: steps, MACs, memory, bytes moved, checkpoint size.

    python benchmarks/scaling.py [--images 1281167] [--classes 1000]

Nothing is measured here. Hours are for a sustained rate per device, `--rate`, in 10^12 multiply-accumulates a second. The default
is what the Once-for-All paper's 1,200 V100-hours come to. Results: docs/scaling.md.
"""

import argparse
from math import prod

from onceforall import Supernet
from onceforall.pipeline.presets import PRESETS
from onceforall.train import work_per_step

FLOAT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.31)
    arguments = parser.parse_args()
    for name in ("imagenet-ofa", "imagenet-alphanet"):
        preset = PRESETS[name]
        space, batch = preset.space({}), preset.recipe.batch_size
        schedule = preset.schedule(space, round(preset.epochs * (arguments.images // batch)))
        work = work_per_step(schedule, space, arguments.classes)
        total = sum(macs * phase.steps for macs, phase in zip(work, schedule.phases, strict=True))
        supernet = Supernet(space, arguments.classes)
        weights = sum(p.numel() for p in supernet.parameters())
        plan = space.lower(space.largest(), arguments.classes)
        kept = FLOAT * sum(prod(op.shape) for op in plan.ops)
        print(f"{name}: {schedule.steps:,} steps of {batch:,} images, {total:.3g} MACs, {weights:,} weights")
        statistics = sum(b.numel() for b in supernet.buffers())
        print(f"  checkpoint: {FLOAT * (2 * weights + statistics) / 1e6:.1f} MB (weights, momentum, statistics)")
        print(
            f"  largest network at {space.resolutions[-1]} px: {kept / 1e6:.0f} MB of activations an image in train mode, float32"
        )
        for devices in (32, 8):
            images = batch // devices
            ring = 2 * (devices - 1) / devices * FLOAT * weights
            hours = total / devices / (arguments.rate * 1e12) / 3600
            memory = (
                f"{images} images each, {images * kept / 1e9:.1f} GB of activations, {ring / 1e6:.1f} MB moved per step and device"
            )
            print(f"  {devices} devices: {memory}, {hours:,.0f} h ({devices * hours:,.0f} device-hours)")


if __name__ == "__main__":
    main()
