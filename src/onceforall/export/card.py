"""The model card: README.md of an exported folder, with the YAML head that Hugging Face reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..arch import Arch
from ..backends import FORMATS
from ..common.onnx_options import OUTPUT, PROBABILITIES, OnnxOptions
from ..common.readable import amount, memory, percent
from ..looks import layers, look_of
from ..nn.source import needs_of
from ..plan import Plan
from ..resolutions import by_sides
from ..scores import METRICS, Confusion, told_of
from ..tasks.label_scores import LABEL_HEADER, LabelScores
from .bundle import Interval
from .card_text import PROOF, card_of, escaped, head_of, latency_text, proof_rows, top1_text
from .config import ExportConfig
from .program import program_of
from .proof import Proof
from .readers import READERS, ReaderResult

MOST_CLASSES = 100  # with more, a card does not list them


@dataclass(frozen=True)
class FileRow:
    """Measurements through one format's file.

    Args:
        format: key of `FORMATS`.
        top1: top-1 on the test images, a fraction.
        latency: latency in ms with its 95 % interval, on the machine that wrote the card; None if it is for another one.
        held_out: int8 files only: top-1 (or mAP) on the held-out images before and after quantization.
        top5: top-5 on the test images, a fraction.
        map: multi-label only: mean average precision on the test images.
        score: the run's metric on the test images, if that is neither top-1 nor mAP.
    """

    format: str
    top1: float
    latency: Interval | None = None
    held_out: tuple[float, float] | None = None
    top5: float | None = None
    map: float | None = None
    score: float | None = None

    @property
    def reported(self) -> tuple[str, float]:
        """Name and value of the reported score: top-1, or mAP if there is one."""
        return told_of(self.top1, self.map)


@dataclass(frozen=True)
class CardFacts:
    """Measurements of the exported network.

    Args:
        top1: fraction of test images classified correctly, through the exported file if there is one.
        latency: for each device its name, how latency was measured, and ms with a 95 % interval.
        made_with: the commands, and versions of packages.
        top5: like `top1`, if the data have more than 5 classes.
        files: one row for each format.
        left_out: formats whose files are removed, with one line on why.
        license: Hugging Face's name of the license; None if the user chose none.
        confusion: confusion matrix on the test images.
        labels: multi-label only: scores of the labels on the test images.
        metric: the metric by which the network was chosen.
    """

    name: str
    data: str
    top1: float
    test_images: int
    latency: Sequence[tuple[str, str, Interval]] = ()
    made_with: Sequence[str] = ()
    top5: float | None = None
    license: str | None = None
    notes: Sequence[str] = field(default=())
    files: Sequence[FileRow] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    confusion: Confusion | None = None
    labels: LabelScores | None = None
    metric: str = "top1"

    @property
    def reported(self) -> tuple[str, float]:
        """Name and value of the reported score: top-1, or mAP if there is one."""
        return told_of(self.top1, None if self.labels is None else self.labels.map)

    @property
    def other(self) -> dict[str, float]:
        """Name and value of the metric, if it is not the reported score."""
        return {} if self.confusion is None or self.metric == "top1" else {METRICS[self.metric]: self.confusion.score(self.metric)}


def write_card(
    facts: CardFacts,
    *,
    plan: Plan,
    arch: Arch,
    config: ExportConfig,
    proofs: Mapping[str, Proof],
    sizes: Mapping[str, int],
    readings: Sequence[ReaderResult] = (),
    hashed: bool = False,
) -> str:
    """The card as Markdown. `proofs` and `sizes` (bytes) are by format; `hashed`: the folder has the training images' hashes."""
    onnx, elastic = config.onnx or OnnxOptions(), config.space.family == "graph"  # elastic: from the user's own network
    tags = [config.space.family, *(name for name in proofs if name != "pytorch")]
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", facts.data, re.ASCII) is not None  # the Hub's form of data set names
    untried = dict.fromkeys(reading.reader for reading in readings if reading.state == "not tried")
    return card_of(
        "card.md",
        facts=facts, arch=arch, config=config, proofs=proofs, readings=readings, onnx=onnx, elastic=elastic, formats=FORMATS,
        head=head_of(
            {facts.name: facts.reported[1]}, facts.data, tags,
            license=facts.license, on_hub=on_hub, metric=facts.reported[0], others=facts.other,
        ),
        origin="; ".join(f"{key}: {value}" for key, value in config.space.arguments["graph"]["about"].items()) if elastic else "",
        measured=_measured(facts, plan),
        metric=facts.reported[0],
        proof_header=[name.replace("top-1", "first label") if facts.labels else name for name in PROOF],
        class_header=LABEL_HEADER if facts.labels else ("class", "test images", "recall", "precision", "F1"),
        classes=_classes(facts, config.classes),
        mistakes=[] if facts.confusion is None else facts.confusion.mistaken(config.classes, 5),
        files=_files(facts, sizes),
        others=[f"test {name}" for name in facts.other],
        needs=needs_of(plan),
        drops=[f"{row.format} {percent(row.held_out[0])} to {percent(row.held_out[1])}" for row in facts.files if row.held_out],
        proven=[[name, *row] for name, proof in proofs.items() for row in proof_rows(proof)],
        softmax=[FORMATS[name].files[0] for name in proofs if FORMATS[name].from_onnx and onnx.softmax],
        read=[_read(reading) for reading in readings if reading.state != "not tried"],
        missing=[f"{READERS[key].name} (`{READERS[key].install}`)" for key in untried],
        preparing=program_of("").preparing,
        inputs=[_input(name, onnx) for name in proofs],
        blocks=_blocks(plan, arch, elastic),
        plan=plan,
        pixels=by_sides(arch.resolution),
        hashed=hashed,
    )  # fmt: skip


def _classes(facts: CardFacts, names: Sequence[str]) -> list[list[str]]:
    """A row for each class or label; none if there are very many."""
    scores = facts.labels or facts.confusion
    return [] if scores is None or len(names) > MOST_CLASSES else scores.rows(names)


def _measured(facts: CardFacts, plan: Plan) -> list[list[str]]:
    images = f"{facts.test_images:,} test images"
    return [
        ["test top-1", top1_text(facts.top1, facts.test_images), images] if facts.labels is None else _map(facts.labels, images),
        *([] if facts.top5 is None else [["test top-5", percent(facts.top5), images]]),
        *([] if facts.labels is None else _label_scores(facts.labels, images)),
        *([] if facts.confusion is None else _scores(facts.confusion, images, facts.metric)),
        *([f"latency, {device}", latency_text(interval), method] for device, method, interval in facts.latency),
        ["MACs", amount(plan.macs), "multiply-accumulates for one image"],
        ["parameters", amount(plan.params), ""],
        ["peak activations", memory(plan.peak_memory_bytes), "float32, one image"],
    ]


def _map(labels: LabelScores, images: str) -> list[str]:
    """Mean average precision with its interval."""
    interval = "" if labels.interval is None else _interval(labels.interval)
    return ["test mAP", percent(labels.map) + interval, f"mean of the labels' average precisions, {images}, interval by bootstrap"]


def _interval(ends: tuple[float, float]) -> str:
    """An interval of fractions, in percent, behind a score."""
    return f" ({100 * ends[0]:.1f} – {100 * ends[1]:.1f})"


def _label_scores(labels: LabelScores, images: str) -> list[list[str]]:
    """Rows of scores besides mAP."""
    return [
        ["macro F1", percent(labels.macro_f1), f"mean of the labels' F1 at thresholds chosen on held-out images, {images}"],
        ["mAP by chance", percent(labels.chance), "mean of the shares of images that have each label"],
    ]


def _scores(confusion: Confusion, images: str, metric: str) -> list[list[str]]:
    """Rows of scores besides top-1."""
    interval = _interval(confusion.interval("balanced"))
    return [
        ["balanced accuracy", percent(confusion.balanced) + interval, f"mean of the classes' recalls, {images}"],
        ["macro F1", percent(confusion.macro_f1), f"mean of the classes' F1, {images}"],
        *(
            ["majority class", percent(confusion.baseline(name)), f"{METRICS[name]} of always predicting the largest class: chance"]
            for name in dict.fromkeys(("top1", metric))
        ),
        ["calibration error", percent(confusion.calibration_error), "mean difference of confidence and accuracy, 15 bins"],
    ]


def _files(facts: CardFacts, sizes: Mapping[str, int]) -> list[list[str]]:
    measured, rows = {row.format: row for row in facts.files}, []
    for name, size in sizes.items():
        if row := measured.get(name):
            scores = [row.reported[1], *([] if facts.top5 is None else [row.top5]), *(row.score for _ in facts.other)]
            texts = [*map(percent, scores), latency_text(row.latency)]
        else:
            texts = [""] * (2 + (facts.top5 is not None) + len(facts.other))
        rows.append([name, ", ".join(FORMATS[name].files), *texts, memory(size)])
    return rows


def _read(reading: ReaderResult) -> list[str]:
    """A row on an ONNX file in another program."""
    numbers = ["" if value is None else f"{value:.2g}" for value in (reading.max_abs_diff, reading.tolerance)]
    same = "" if reading.top1_agreement is None else percent(reading.top1_agreement)
    reader = f"{READERS[reading.reader].name} {reading.version}".rstrip()
    agrees = f"agrees, in batches of {', '.join(map(str, reading.batches))}"
    state = agrees if reading.state == "agrees" else f"**{reading.state}**"
    return [f"`{reading.file}`", escaped(reader), state, *numbers, same]


def _input(name: str, onnx: OnnxOptions) -> list[str]:
    format = FORMATS[name]
    batch = "any" if max(format.batches) > 1 else "1"
    if not format.from_onnx:
        return [name, batch, format.takes]
    takes = f"{format.takes}, gives `{PROBABILITIES if onnx.softmax else OUTPUT}`"
    return [name, str(onnx.batch or batch), f"{takes}; opset {onnx.opset}" if format.is_onnx else takes]


def _blocks(plan: Plan, arch: Arch, elastic: bool) -> list[list[str]]:
    """Rows of the network's blocks; `elastic`, for the user's own networks, adds the columns hidden and heads."""
    blocks = {f"stages.{s}.{i}": block for s, stage in enumerate(arch.stages) for i, block in enumerate(stage.blocks)}
    rows = []
    for segment in plan.segments:
        look, block = look_of(segment), blocks.get(segment.name)
        kernel = max((layer.kernel for layer in layers(segment)), default=0)
        ratio = f"{block.expand_ratio:g}" if block else ""
        more = [str(look.hidden), str(look.heads or "")] if elastic else []
        shape = "×".join(map(str, segment.out_shape))
        rows.append([segment.name, str(kernel or ""), ratio, *more, shape, f"{segment.macs:,}", f"{segment.params:,}"])
    return rows
