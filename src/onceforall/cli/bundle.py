"""`ofa bundle`."""

import json
from dataclasses import asdict

from .. import readable
from ..options.choosing import BundleOptions
from .options import tell

__all__ = ["bundle"]


def bundle(o: BundleOptions, as_json: bool) -> None:
    """Put several networks into one folder, to switch at run time."""
    from ..pipeline.bundle import bundle as call

    done = call(o, on_step=tell)
    members, sizes = done.bundle.members, done.facts.sizes
    if as_json:
        entries = [member.to_json(done.bundle.plans[name]) for name, member in members.items()]
        print(json.dumps({"folder": str(done.folder), "members": entries, "facts": asdict(done.facts)}))
        return
    print(f"{done.folder}: {len(members)} networks, {_share(sizes.disk, sizes.disk_separate)}")
    print(f"  weights in memory: {_share(sizes.memory, sizes.memory_separate)}")
    for name, member in members.items():
        switch = done.facts.switches[name]
        accuracy = f"test top-1 {readable.percent(member.test_top1)} ({member.test_images} images)"
        first, again, anew = map(readable.milliseconds, (switch.first, switch.again, switch.anew))
        latency = f"{readable.milliseconds(member.known_ms)} {'in PyTorch' if member.latency_ms else f'on {o.device}'}"
        print(f"  {name}: {member.arch.resolution} px, {accuracy}, {latency}")
        print(f"    after another one: first time {first}, later {again}; an export of its own, loaded anew: {anew}")


def _share(own: int, separate: int) -> str:
    return f"{readable.memory(own)}, {readable.percent(own / separate, 0)} of {readable.memory(separate)} one by one"
