"""The card of a bundle: README.md, with the YAML head that Hugging Face reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..common.readable import amount, memory, milliseconds, percent
from ..nn.bundle_source import bundle_needs
from ..plan import Plan
from ..resolutions import in_pixels
from ..scores import METRICS
from .bundle import Bundle, BundleMember
from .card_text import PROOF, card_of, head_of, latency_text, proof_rows, top1_text
from .program import Program
from .proof import Proof

ONCE = """import json
from pathlib import Path

import torch
from model import RESOLUTIONS, Bundle  # model.py and preprocess.py of this folder
from preprocess import prepare

config = json.loads(Path("bundle.json").read_text(encoding="utf-8"))["config"]"""


def bundle_program(name: str) -> Program:
    """The card's program for one of the networks."""
    usage = 'bundle = Bundle("weights.safetensors")\nwith torch.no_grad():\n'
    usage += f'    logits = bundle.network("{name}")(torch.from_numpy(x)).numpy()'
    return Program(ONCE, f'x = prepare("photo.jpg", config["preprocessing"], RESOLUTIONS["{name}"])', usage)


@dataclass(frozen=True)
class Switch:
    """Times of a network's call after another network ran, in ms: medians over `rounds` measurements.

    Args:
        first: its first call since the bundle was read.
        again: a later call after another network.
        steady: one more call of it.
        anew: loading the network as exported alone (`model.py`, `weights.safetensors`), and one call.
        alone: one more call of the network exported alone.
    """

    first: float
    again: float
    steady: float
    anew: float
    alone: float
    rounds: int


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk (weights and model.py) and in memory (weights and statistics), of the bundle and of separate exports."""

    disk: int
    disk_separate: int
    memory: int
    memory_separate: int


@dataclass(frozen=True)
class BundleFacts:
    """Measurements of a bundle as a whole.

    Args:
        device: the device that the networks were chosen for.
        method: how and where latency was measured.
        load_ms: median time to read the whole bundle.
        switches: times of switching, by the network's name.
        made_with: commands.
    """

    name: str
    data: str
    device: str
    method: str
    load_ms: float
    switches: Mapping[str, Switch]
    sizes: Sizes
    made_with: Sequence[str] = ()
    notes: Sequence[str] = field(default=())


def write_bundle_card(facts: BundleFacts, bundle: Bundle, proofs: Mapping[str, Mapping[str, Proof]], hashed: bool = False) -> str:
    """The card as Markdown. `proofs` are by network name, then by how it was loaded; `hashed` as in `write_card`."""
    members, sizes = list(bundle.members.values()), facts.sizes
    metric, several = members[0].metric, bool(members[0].thresholds)
    results = {f"{facts.name}: {m.name}": (m.test_score if several else m.test_top1) or 0.0 for m in members}
    tests = ([] if metric == "top1" else [f"test {METRICS[metric]}"]) + ([] if several else ["test top-1 (95 % interval)"])
    timed = [member.known_ms for member in members if member.known_ms is not None]
    return card_of(
        "bundle_card.md",
        facts=facts, bundle=bundle, config=bundle.config, program=bundle_program(members[0].name),
        head=head_of(results, facts.data, [bundle.config.space.family], metric=METRICS["map" if several else "top1"]),
        header=["name", "pixels", *tests, "latency here", "latency on the device", "MACs", "parameters"],
        several=several,
        first=members[0].name,
        proof_header=[name.replace("top-1", "first label") if several else name for name in PROOF],
        needs=bundle_needs(bundle.plans.values()),
        networks=[_network(member, bundle.plans[member.name]) for member in members],
        switches=[
            [name, *map(milliseconds, (s.first, s.again, s.steady, s.anew, s.alone))] for name, s in facts.switches.items()
        ],
        load=milliseconds(facts.load_ms),
        sizes=[
            ["on disk", *_share(sizes.disk, sizes.disk_separate)],
            ["weights in memory", *_share(sizes.memory, sizes.memory_separate)],
        ],
        proven=[
            [name, reader, *row] for name, by in proofs.items() for reader, proof in by.items() for row in proof_rows(proof)
        ],
        chances=[
            f"{name}: {chance}" for name, by in proofs.items() for chance in {proof.chance for proof in by.values()} if chance
        ],
        under=f"bundle.under(latency_ms={1.1 * max(timed):.3g})" if timed else f'"{members[0].name}"',
        hashed=hashed,
    )  # fmt: skip


def _network(member: BundleMember, plan: Plan) -> list[str]:
    top1 = "" if member.test_top1 is None or member.test_images is None else top1_text(member.test_top1, member.test_images)
    tests = ([] if member.metric == "top1" else [percent(member.test_score)]) + ([] if member.thresholds else [top1])
    latencies = [latency_text(member.latency_ms), latency_text(member.device_latency_ms)]
    return [member.name, in_pixels(member.arch.resolution, ""), *tests, *latencies, amount(plan.macs), amount(plan.params)]


def _share(together: int, separate: int) -> list[str]:
    return [memory(together), memory(separate), percent(together / separate, 0)]
