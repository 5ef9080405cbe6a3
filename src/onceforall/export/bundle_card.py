"""The card of a bundle: README.md, with the YAML head that Hugging Face reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..nn.bundle_source import needs_of
from ..readable import amount, memory, milliseconds, percent, table, wilson
from .bundle import Bundle, Interval, Member
from .card_text import code, kind, plain, yaml_of
from .program import ACCURACY, Program
from .proof import ABOUT_FLOAT32, Proof

__all__ = ["BundleFacts", "Sizes", "Switch", "bundle_program", "write_bundle_card"]

ABOUT = """{number} {kind} for {data}, {classes:,} classes, for switching at run time. They are sub-networks of one
once-for-all supernet: each weight is stored once, BatchNorm statistics are each network's own. {needs}"""

USE = """With onceforall:

```python
import onceforall

bundle = onceforall.load_bundle(".")
name = {under}
logits = bundle(images, name)  # images (n, 3, r, r) float32; r: bundle.members[name].arch.resolution
network = bundle.network(name)  # a plain torch.nn.Module in eval mode, on the shared weights
```"""

ALONE = """With torch, numpy and Pillow alone:

```python
{preparing}
{usage}
print(config["classes"][logits[0].argmax()])
```"""

ONCE = """import json
from pathlib import Path

import torch
from model import RESOLUTIONS, Bundle  # model.py and preprocess.py of this folder
from preprocess import prepare

config = json.loads(Path("bundle.json").read_text(encoding="utf-8"))["config"]"""

PROOF = """Each network was run on real images through the bundle and compared with the network extracted alone, and with the
sub-network inside the supernet."""


def bundle_program(name: str) -> Program:
    """What the card shows for one of the networks."""
    usage = 'bundle = Bundle("weights.safetensors")\nwith torch.no_grad():\n'
    usage += f'    logits = bundle.network("{name}")(torch.from_numpy(x)).numpy()'
    return Program(ONCE, f'x = prepare("photo.jpg", config["preprocessing"], RESOLUTIONS["{name}"])', usage)


@dataclass(frozen=True)
class Switch:
    """What it takes to go on with a network after another one ran, in ms, medians of `rounds`.

    Args:
        first: the first call of the network since the bundle was read.
        again: a later one.
        steady: one call more, of the same network.
        anew: reading an exported network of its own (`model.py`, `weights.safetensors`) and one call.
        alone: one call more of that.
        rounds: of the measurement.
    """

    first: float
    again: float
    steady: float
    anew: float
    alone: float
    rounds: int


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk (weights and model.py), and of all weights and statistics in memory, together and in exports of their own."""

    disk: int
    disk_separate: int
    memory: int
    memory_separate: int


@dataclass(frozen=True)
class BundleFacts:
    """What was measured on a bundle, beside its members.

    Args:
        name: title of the card.
        data: name of the data set.
        device: that the networks were chosen for.
        method: how latency was measured, and on what.
        load_ms: reading the whole bundle, median.
        switches: by name of the network.
        sizes: in bytes.
        made_with: commands.
        notes: for the card.
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


def write_bundle_card(facts: BundleFacts, bundle: Bundle, proofs: Mapping[str, Mapping[str, Proof]]) -> str:
    """The card as Markdown. `proofs` are by name of the network, then by how it was loaded."""
    config, members = bundle.config, list(bundle.members.values())
    steps, sizes = config.preprocessing, facts.sizes
    needs = f"`model.py` needs {needs_of(bundle.plans.values())}, and nothing else."
    about = ABOUT.format(
        number=len(members), kind=kind(config.space.family, 2), data=plain(facts.data), classes=len(config.classes), needs=needs
    )
    inputs = f"`preprocess.py` does it, with numpy and Pillow: RGB, {plain(steps.resize)}, mean {list(steps.mean)}, "
    inputs += f"std {list(steps.std)}. The resolution is each network's own. "
    inputs += "`bundle.json` has the names of the classes in the order of the logits."
    timed = [member for member in members if member.known_ms is not None]
    under = f"bundle.under(latency_ms={1.1 * max(m.known_ms or 0 for m in timed):.3g})" if timed else f'"{members[0].name}"'
    shown = bundle_program(members[0].name)
    parts = [
        _head(facts, bundle),
        f"# {plain(facts.name)}",
        about,
        "## Networks",
        table(
            ["name", "pixels", "test top-1 (95 % interval)", "latency here", "latency on the device", "MACs", "parameters"],
            _rows(bundle),
        ),
        f"{ACCURACY} Latency here was measured through the bundle: {plain(facts.method)}.",
        f"The device is {plain(facts.device)}.",
        "## Switching",
        "Milliseconds until a network has answered, after another one ran; medians.",
        table(["network", "first time", "later", "once more", "exported alone, loaded anew", "once more"], _switches(facts)),
        f"Reading the whole bundle takes {milliseconds(facts.load_ms)}.",
        "## Size",
        table(
            ["", "together", "exported one by one", "share"],
            [
                ["on disk", *_share(sizes.disk, sizes.disk_separate)],
                ["weights in memory", *_share(sizes.memory, sizes.memory_separate)],
            ],
        ),
        "## Proof",
        PROOF,
        table(
            [
                "network",
                "read by",
                "compared with",
                "largest difference of a logit",
                "float32 itself",
                "allowed",
                "same top-1",
                "images",
            ],
            [row for name, by in proofs.items() for reader, proof in by.items() for row in _proof(name, reader, proof)],
        ),
        ABOUT_FLOAT32,
        *(f"{name}: {chance}." for name, by in proofs.items() for chance in {proof.chance for proof in by.values()} if chance),
        "## Use",
        ALONE.format(preparing=shown.preparing, usage=shown.usage),
        USE.format(under=under),
        "## Preprocessing",
        inputs,
        *(["## Notes", "\n".join(f"- {plain(note)}" for note in facts.notes)] if facts.notes else []),
        *(["## Made with", "\n".join(f"- `{code(line)}`" for line in facts.made_with)] if facts.made_with else []),
    ]
    return "\n\n".join(parts) + "\n"


def _head(facts: BundleFacts, bundle: Bundle) -> str:
    """YAML; every text is a JSON string, which YAML reads as it is."""
    tags = ["once-for-all", bundle.config.space.family]
    lines = ["---", "library_name: onceforall", "pipeline_tag: image-classification", f"tags: {yaml_of(tags)}"]
    lines += ["metrics:", "- accuracy", "model-index:"]
    for member in bundle.members.values():
        lines += [
            f"- name: {yaml_of(f'{facts.name}: {member.name}')}",
            "  results:",
            "  - task:",
            "      type: image-classification",
        ]
        lines += ["    dataset:", f"      name: {yaml_of(facts.data)}", f"      type: {yaml_of(facts.data)}", "      split: test"]
        lines += ["    metrics:", "    - type: accuracy", "      name: test top-1", f"      value: {member.test_top1 or 0:.6f}"]
    return "\n".join([*lines, "---"])


def _rows(bundle: Bundle) -> list[list[str]]:
    rows = []
    for name, member in bundle.members.items():
        plan = bundle.plans[name]
        costs = [_ms(member.latency_ms), _ms(member.device_latency_ms), amount(plan.macs), amount(plan.params)]
        rows.append([name, f"{member.arch.resolution}", _top1(member), *costs])
    return rows


def _top1(member: Member) -> str:
    if member.test_top1 is None or member.test_images is None:
        return ""
    low, high = wilson(member.test_top1, member.test_images)
    return f"{percent(member.test_top1)} ({100 * low:.1f} – {100 * high:.1f})"


def _ms(found: Interval | None) -> str:
    return "" if found is None else f"{milliseconds(found[0])} ({found[1]:.3g} – {found[2]:.3g})"


def _share(own: int, separate: int) -> list[str]:
    return [memory(own), memory(separate), percent(own / separate, 0)]


def _switches(facts: BundleFacts) -> list[list[str]]:
    return [[name, *map(milliseconds, (s.first, s.again, s.steady, s.anew, s.alone))] for name, s in facts.switches.items()]


def _proof(name: str, reader: str, proof: Proof) -> list[list[str]]:
    found = [("extracted network", proof.extracted)]
    if proof.active is not None:
        found.append(("sub-network of the supernet", proof.active))
    return [
        [
            name,
            reader,
            other,
            *(f"{x:.2g}" for x in (v.max_abs_diff, v.float32_error, v.tolerance)),
            percent(v.top1_agreement),
            f"{v.images:,}",
        ]
        for other, v in found
    ]
