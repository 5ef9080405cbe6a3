"""What training on ImageNet takes, computed from the presets: steps, MACs, memory, bytes moved, checkpoint size, cost.

    python benchmarks/scaling.py [--images 1281167] [--classes 1000] [--rate 0.31] [--price 2]

Nothing is measured here. Hours are for a sustained rate per device, `--rate`, in 10^12 multiply-accumulates a second. The default
is what the Once-for-All paper's 1,200 V100-hours come to, so that for imagenet-ofa they only give the paper's hours back. `--price`
is what an hour of a device costs: an assumption, put in yours. Results: docs/scaling.md.
"""

import argparse
from math import prod

from onceforall import Supernet
from onceforall.options.presets import PRESETS
from onceforall.train import work_per_step

FLOAT, HALF = 4, 2  # bytes
STATES = {"sgd": 1, "adamw": 2}  # numbers that the optimiser keeps for each weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.31)
    parser.add_argument("--price", type=float, default=2.0)
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
        kept = HALF * sum(prod(op.shape) for op in plan.ops)
        recipe = preset.recipe
        copies = {"weights": 1, "gradients": 1, "optimiser": STATES[recipe.optimizer], "running mean": int(recipe.ema > 0)}
        copies["teacher"] = int(any(phase.distil and phase.teacher == "frozen" for phase in schedule.phases))
        fixed = FLOAT * weights * sum(copies.values())
        print(f"{name}: {schedule.steps:,} steps of {batch:,} images, {total:.3g} MACs, {weights:,} weights")
        statistics = sum(b.numel() for b in supernet.buffers())
        print(f"  checkpoint: {FLOAT * (2 * weights + statistics) / 1e6:.1f} MB (weights, momentum, statistics)")
        parts = ", ".join(f"{name} {n}" for name, n in copies.items())
        print(f"  on every device: {fixed / 1e6:.0f} MB in float32 ({parts} × weights)")
        top = space.resolutions[-1]
        print(f"  largest network at {top} px: {kept / 1e6:.0f} MB of activations an image in train mode, bfloat16")
        for devices in (32, 8):
            images = batch // devices
            ring = 2 * (devices - 1) / devices * FLOAT * weights
            hours = total / devices / (arguments.rate * 1e12) / 3600
            step = total / schedule.steps / devices / (arguments.rate * 1e12)
            memory, spent = (images * kept + fixed) / 1e9, devices * hours
            print(f"  {devices} devices: {images} images each, {memory:.1f} GB; {ring / 1e6:.1f} MB moved per step and device,")
            cost = f"{spent * arguments.price:,.0f} at {arguments.price:g} each"
            print(f"    {step:.2f} s a step; {hours:,.0f} h, {spent:,.0f} device-hours, {cost}")


if __name__ == "__main__":
    main()
