"""The model card: README.md of an exported folder, with the YAML head that Hugging Face reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..arch import Arch
from ..backends import FORMATS
from ..looks import layers, look
from ..nn.source import needs_of
from ..onnx_options import OUTPUT, PROBABILITIES, OnnxOptions
from ..plan import Plan
from ..readable import amount, memory, milliseconds, percent, table, wilson
from .card_text import code, plain, yaml_of
from .config import ExportConfig
from .program import ACCURACY, program_of
from .proof import ABOUT_FLOAT32, Proof, Verification
from .readers import READERS, Reading

__all__ = ["CardFacts", "LatencyRow", "write_card"]

RUN = """{name}:

```python
{usage}
print(config["classes"][logits[0].argmax()])
```"""

LOADING = """With onceforall:

```python
import onceforall

network = onceforall.load(".")  # a plain torch.nn.Module in eval mode
```"""

BLOCKS = ["segment", "kernel", "expand ratio", "output", "MACs", "parameters"]
OWN_BLOCKS = ["segment", "kernel", "share of its widths", "hidden", "heads", "output", "MACs", "parameters"]


@dataclass(frozen=True)
class LatencyRow:
    """Latency of one file on one device, in ms, with its 95 % interval and how it was measured."""

    device: str
    method: str
    ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class FileRow:
    """What was measured through one format's file.

    Args:
        format: key of `FORMATS`.
        top1: on the test images, a fraction.
        latency: in ms with its 95 % interval on the machine that wrote the card; None if the network is for another one.
        held_out: of int8 files, top-1 on the held-out images before and after quantisation.
        top5: as top1.
    """

    format: str
    top1: float
    latency: tuple[float, float, float] | None = None
    held_out: tuple[float, float] | None = None
    top5: float | None = None


@dataclass(frozen=True)
class CardFacts:
    """What was measured on the exported network.

    Args:
        name: title of the card.
        data: name of the data set.
        top1: fraction of the test images that are classified right, through the exported file where there is one.
        test_images: how many they are.
        latency: one row for each device.
        made_with: the commands, and versions of packages.
        top5: as top1, if the data have more than 5 classes.
        files: one row for each format.
        left_out: formats whose files are removed again, and why in one line.
        license: Hugging Face's name of the licence; left out if None, as it is the user's to choose.
    """

    name: str
    data: str
    top1: float
    test_images: int
    latency: Sequence[LatencyRow] = ()
    made_with: Sequence[str] = ()
    top5: float | None = None
    license: str | None = None
    notes: Sequence[str] = field(default=())
    files: Sequence[FileRow] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def write_card(
    facts: CardFacts,
    *,
    plan: Plan,
    arch: Arch,
    config: ExportConfig,
    proofs: Mapping[str, Proof],
    sizes: Mapping[str, int],
    readings: Sequence[Reading] = (),
) -> str:
    """The card as Markdown. `proofs` are by format, `sizes` bytes by format."""
    onnx, own = config.onnx or OnnxOptions(), config.space.family == "graph"
    low, high = wilson(facts.top1, facts.test_images)
    measured = [["test top-1", f"{percent(facts.top1)} ({100 * low:.1f} – {100 * high:.1f})", f"{facts.test_images:,} test images"]]
    if facts.top5 is not None:
        measured.append(["test top-5", percent(facts.top5), f"{facts.test_images:,} test images"])
    for row in facts.latency:
        interval = f"{milliseconds(row.ms)} ({row.low_ms:.3g} – {row.high_ms:.3g})"
        measured.append([f"latency, {row.device}", interval, row.method])
    measured += [
        ["MACs", amount(plan.macs), "multiply-accumulates for one image"],
        ["parameters", amount(plan.params), ""],
        ["peak activations", memory(plan.peak_memory_bytes), "float32, one image"],
    ]
    steps = config.preprocessing
    pixels = f"{arch.resolution}×{arch.resolution} pixels"
    about = f"{_what(config)} for {plain(facts.data)}, {len(config.classes):,} classes, at {pixels}."
    about += " It is one sub-network of a once-for-all supernet, with BatchNorm statistics of its own."
    size = f"{arch.resolution}, {arch.resolution}"
    inputs = f"`preprocess.py` does it, with numpy and Pillow: RGB, {plain(steps.resize)}; then (pixel / 255 - mean) / std, "
    inputs += f"mean {list(steps.mean)}, std {list(steps.std)}. "
    inputs += f"Every file takes that as float32 (batch, 3, {size}) and gives logits (batch, {len(config.classes)})"
    inputs += f"{_unless(onnx, proofs)}. "
    inputs += "`config.json` has the names of the classes in their order."
    top5 = [] if facts.top5 is None else ["test top-5"]
    parts = [
        _head(facts, config, proofs),
        f"# {plain(facts.name)}",
        about,
        "![the network, block by block](network.svg)",
        "## Measured",
        table(["what", "value (95 % interval)", "how"], measured),
        "## Files",
        f"{ACCURACY} Latency was measured through each file.",
        table(["format", "file", "test top-1", *top5, "latency (95 % interval)", "size"], _files(facts, sizes)),
        f"`model.py` needs {needs_of(plan)}, and nothing else.",
        *([_quantised(facts)] if any(row.held_out for row in facts.files) else []),
        *(f"Without {FORMATS[name].files[0]}: {plain(why)}." for name, why in facts.left_out.items()),
        "## Proof",
        "Each file was run on real images and compared with the network that it was written from.",
        table(
            ["format", "compared with", "largest difference of a logit", "float32 itself", "allowed", "same top-1", "images"],
            [row for name, proof in proofs.items() for row in _proof(name, proof)],
        ),
        ABOUT_FLOAT32,
        *_through_logits(onnx, proofs),
        *(plain(f"{proof.chance}.") for name, proof in proofs.items() if name == "pytorch" and proof.chance is not None),
        *_elsewhere(readings),
        "## Use",
        f"```python\n{program_of('').preparing}\n```",
        *(RUN.format(name=FORMATS[name].files[0], usage=FORMATS[name].usage_with(onnx)) for name in proofs),
        LOADING,
        "## Preprocessing",
        inputs,
        table(["format", "batch", "images go to"], [_input(name, onnx) for name in proofs]),
        "## Blocks",
        table(OWN_BLOCKS if own else BLOCKS, _blocks(plan, arch, own)),
        *(["## Notes", "\n".join(f"- {plain(note)}" for note in facts.notes)] if facts.notes else []),
        *(["## Made with", "\n".join(f"- `{code(line)}`" for line in facts.made_with)] if facts.made_with else []),
    ]
    return "\n\n".join(parts) + "\n"


def _head(facts: CardFacts, config: ExportConfig, proofs: Mapping[str, Proof]) -> str:
    """YAML; every text is a JSON string, which YAML reads as it is."""
    tags = ["once-for-all", config.space.family, *(name for name in proofs if name != "pytorch")]
    lines = ["---"]
    if facts.license is not None:
        lines.append(f"license: {yaml_of(facts.license)}")
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", facts.data, re.ASCII):  # as the Hub wants them
        lines.append(f"datasets: {yaml_of([facts.data])}")
    lines += ["library_name: onceforall", "pipeline_tag: image-classification", f"tags: {yaml_of(tags)}", "metrics:", "- accuracy"]
    lines += ["model-index:", f"- name: {yaml_of(facts.name)}", "  results:", "  - task:", "      type: image-classification"]
    lines += ["    dataset:", f"      name: {yaml_of(facts.data)}", f"      type: {yaml_of(facts.data)}", "      split: test"]
    lines += ["    metrics:", "    - type: accuracy", "      name: test top-1", f"      value: {facts.top1:.6f}"]
    return "\n".join([*lines, "---"])


def _what(config: ExportConfig) -> str:
    """What kind of network it is, and where one that was brought comes from."""
    if config.space.family != "graph":
        return f"A {config.space.family} network"
    origin = config.space.arguments["graph"]["about"]
    words = "; ".join(f"{key}: {value}" for key, value in origin.items())
    return f"A network made elastic from a trained one ({plain(words)})" if words else "A network made elastic from a trained one"


def _blocks(plan: Plan, arch: Arch, own: bool) -> list[list[str]]:
    """Rows of `BLOCKS`, or of `OWN_BLOCKS` for networks that were brought."""
    blocks = {f"stages.{s}.{i}": block for s, stage in enumerate(arch.stages) for i, block in enumerate(stage.blocks)}
    rows = []
    for segment in plan.segments:
        found, block = look(segment), blocks.get(segment.name)
        kernel = max((layer.kernel for layer in layers(segment)), default=0)
        ratio = f"{block.expand_ratio:g}" if block else ""
        more = [str(found.hidden), str(found.heads or "")] if own else []
        shape = "×".join(map(str, segment.out_shape))
        rows.append([segment.name, str(kernel or ""), ratio, *more, shape, f"{segment.macs:,}", f"{segment.params:,}"])
    return rows


def _files(facts: CardFacts, sizes: Mapping[str, int]) -> list[list[str]]:
    measured = {row.format: row for row in facts.files}
    rows = []
    for name, size in sizes.items():
        top1 = top5 = latency = ""
        if name in measured:
            top1, top5 = percent(measured[name].top1), percent(measured[name].top5)
            if found := measured[name].latency:
                latency = f"{milliseconds(found[0])} ({found[1]:.3g} – {found[2]:.3g})"
        accuracies = [top1] if facts.top5 is None else [top1, top5]
        rows.append([name, ", ".join(FORMATS[name].files), *accuracies, latency, memory(size)])
    return rows


def _proof(name: str, proof: Proof) -> list[list[str]]:
    def row(network: str, found: Verification) -> list[str]:
        difference, allowed = f"{found.max_abs_diff:.2g}", f"{found.tolerance:.2g}"
        return [
            name,
            network,
            difference,
            f"{found.float32_error:.2g}",
            allowed,
            percent(found.top1_agreement),
            f"{found.images:,}",
        ]

    active = [] if proof.active is None else [row("sub-network of the supernet", proof.active)]
    return [row("extracted network", proof.extracted), *active]


def _quantised(facts: CardFacts) -> str:
    drops = [
        f"{row.format} {percent(row.held_out[0])} to {percent(row.held_out[1])}" for row in facts.files if row.held_out is not None
    ]
    return f"What int8 does to top-1 on the held-out images, from which its acceptance was decided: {', '.join(drops)}."


def _input(name: str, onnx: OnnxOptions) -> list[str]:
    format = FORMATS[name]
    batch = "any" if max(format.batches) > 1 else "1"
    if not format.from_onnx:
        return [name, batch, format.takes]
    takes = f"{format.takes}, gives `{PROBABILITIES if onnx.softmax else OUTPUT}`"
    return [name, str(onnx.batch or batch), f"{takes}; opset {onnx.opset}" if format.is_onnx else takes]


def _unless(onnx: OnnxOptions, proofs: Mapping[str, Proof]) -> str:
    """What files that are made from an ONNX graph give instead of logits."""
    files = _with_softmax(onnx, proofs)
    return f", but {' and '.join(files)} the probabilities, their softmax" if files else ""


def _through_logits(onnx: OnnxOptions, proofs: Mapping[str, Proof]) -> list[str]:
    """What was proven of files that end with a softmax."""
    return [
        f"The logits compared for `{file}` are those of the same graph written without its softmax; the probabilities that the "
        "file itself gives were compared with the softmax of such logits."
        for file in _with_softmax(onnx, proofs)
    ]


def _with_softmax(onnx: OnnxOptions, proofs: Mapping[str, Proof]) -> list[str]:
    return [FORMATS[name].files[0] for name in proofs if FORMATS[name].from_onnx and onnx.softmax]


def _elsewhere(readings: Sequence[Reading]) -> list[str]:
    """What other programs made of the ONNX files."""
    if not readings:
        return []
    tried = [reading for reading in readings if reading.state != "not tried"]
    rows = []
    for found in tried:
        numbers = [f"{value:.2g}" if value is not None else "" for value in (found.max_abs_diff, found.tolerance)]
        same = "" if found.top1_agreement is None else percent(found.top1_agreement)
        reader = f"{READERS[found.reader].name} {found.version}".rstrip()
        state = f"agrees, in batches of {', '.join(map(str, found.batches))}" if found.state == "agrees" else f"**{found.state}**"
        rows.append([f"`{found.file}`", plain(reader), state, *numbers, same])
    left = dict.fromkeys(reading.reader for reading in readings if reading.state == "not tried")
    installs = [f"{READERS[key].name} (`{READERS[key].install}`)" for key in left]
    header = ["file", "program", "result", "largest difference", "allowed", "same top-1"]
    return [
        *(["Other programs that read ONNX were run on the same images.", table(header, rows)] if rows else []),
        *([f"Do not overlook: {plain(reading.warning)}." for reading in tried if reading.warning is not None]),
        *([f"Not tried: {', '.join(installs)}."] if installs else []),
    ]
