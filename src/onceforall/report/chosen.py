"""The networks that were written out: a table, and each drawn block by block."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..arch import Arch
from ..common.files import read_json
from ..common.readable import amount, memory, milliseconds, percent
from ..export import FileRow
from ..latency import LatencyTable
from ..looks import channels, look, pixels
from ..options.shared import Budget
from ..picture import draw
from ..pipeline.run_directory.run import Run
from ..pipeline.specialising.mistakes import Mistake
from ..scores import METRICS, Confusion
from ..tasks.label_scores import LabelScores
from .charts import FrontSeries
from .confusion import confusion_part, labels_part
from .html import html
from .shown import Chosen, Shown, as_file_error, tested, timed


def read_chosen(run: Run, tables: Mapping[str, LatencyTable]) -> list[Chosen]:
    """The networks in specialised/, the fastest first. `tables` are by the device's name."""
    found = []
    for path in sorted((run.folder / "specialised").glob("*.json")):
        with as_file_error(path):
            data = read_json(path)
            arch, test, device = Arch.from_json(data["arch"]), data["test"], data["device"]
            ms, low, high = (float(data["latency"][name]) for name in ("ms", "low", "high"))
            one = Chosen(
                name=path.stem,
                device=tables[device].device.spec if device in tables else device,
                budget=Budget(**data["budget"]),
                latency=(ms, low, high),
                predicted_ms=data["predicted_ms"],
                top1=float(test["top1"]),
                images=int(test["images"]),
                predicted_top1=data["predicted_top1"],
                arch=arch,
                plan=run.space.lower(arch, run.num_classes),
                shares=dict(data["shares"]),
                folder=data["folder"],
                files=[
                    FileRow(file["format"], file["top1"], file["latency"], map=file.get("map")) for file in data.get("files", [])
                ],
                confusion=None if data.get("confusion") is None else Confusion.from_json(data["confusion"]),
                classes=run.info.classes,
                mistakes=[Mistake(**mistake) for mistake in data.get("mistakes", [])],
                labels=None if data.get("labels") is None else LabelScores.from_json(data["labels"]),
                metric=data.get("metric", run.metric),
            )
        found.append(one)
    return sorted(found, key=lambda one: one.latency[0])


def chosen(runs: Sequence[Shown]) -> Markup:
    """Table and pictures of the networks that were written out."""
    without, words = [run for run in runs if not run.chosen], "No network was specialised yet."
    lacking = Markup().join(run.empty(words, f"specialise {{run}} --latency {_middle(run)}") for run in without)
    named = [(run.label(one.name), one) for run in runs for one in run.chosen]
    if not named:
        return lacking
    names = list(dict.fromkeys(one.told[0] for _, one in named))
    score = names[0] if len(names) == 1 else "score"
    words = f"Measured on the exported files: latency on the device, {score} on test images that nothing was chosen with."
    header = ["network", "asked for", "latency", f"test {score}", "MACs", "parameters", "activations"]
    rows = [
        [
            (name, one.device),
            str(one.budget),
            timed(*one.latency, f", {100 * one.latency[0] / most:.0f} % of budget" if (most := one.budget.latency_ms) else ""),
            tested(one),
            amount(one.plan.macs),
            amount(one.plan.params),
            memory(one.plan.peak_memory_bytes),
        ]
        for name, one in named
    ]
    drawn = Markup().join(_drawn(name, one) for name, one in named)
    return Markup(html.soft(words) + html.table("Chosen networks", header, rows, 2) + drawn + lacking)


def _middle(run: Shown) -> str:
    """A latency that is worth asking for: the middle of the first device's front."""
    (device, _), series = next(iter(run.fronts.items()), ((None, ""), FrontSeries("")))
    costs = sorted(cost for cost, _ in series.front) if device is not None else []
    return f"{costs[len(costs) // 2]:.2g}ms" if costs else "5ms"


def _drawn(name: str, one: Chosen) -> Markup:
    metric, value = one.told
    pairs = [("latency", milliseconds(one.latency[0])), (f"test {metric}", percent(value))]
    if one.predicted_ms is not None:
        pairs.append(("predicted latency", milliseconds(one.predicted_ms)))
    if one.predicted_top1 is not None:
        pairs.append((f"predicted held-out {METRICS[one.metric]}", percent(one.predicted_top1)))
    picture = Markup(draw(one.plan, one.arch, shares=one.shares or None))
    header = ["part", "kernel", "expand ratio", "channels out", "size out", "MACs", "share of latency"]
    blocks = html.table(f"Blocks of {name}", header, _blocks(one))
    rows = [[file.format, percent(file.told[1]), timed(*file.latency) if file.latency else "–"] for file in one.files]
    files = html.table(f"Files of {name}", ["file", f"test {metric} through it", "latency through it"], rows) if rows else ""
    mistakes = confusion_part(name, one.confusion, one.classes, one.mistakes) if one.confusion is not None else Markup()
    if one.labels is not None:
        mistakes = labels_part(name, one.labels, one.classes)
    return Markup(html.article(name, pairs, picture, blocks, mistakes + files, one.folder))


def _blocks(one: Chosen) -> list[list[str]]:
    ratios = {f"stages.{s}.{i}": b.expand_ratio for s, stage in enumerate(one.arch.stages) for i, b in enumerate(stage.blocks)}
    rows = []
    for segment in one.plan.segments:
        kernel, ratio, size = look(segment).kernel, ratios.get(segment.name), pixels(segment.out_shape)
        rows.append(
            [
                segment.name,
                "–" if kernel is None else f"{kernel}×{kernel}",
                "–" if ratio is None else f"{ratio:g}",
                f"{channels(segment.out_shape):,}",
                f"{size[0]}×{size[0]}" if size else "–",
                amount(segment.macs),
                percent(one.shares.get(segment.name)),
            ]
        )
    return rows
