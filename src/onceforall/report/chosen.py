"""The specialized networks: a table, and each drawn block by block."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..common.readable import amount, memory, milliseconds, percent
from ..latency import LatencyTable
from ..looks import channels, look_of, pixels
from ..picture import draw
from ..pipeline.run_directory.run import Run
from ..pipeline.specialising.record import Specialised, specialised_in
from ..scores import METRICS
from .charts import FrontSeries
from .confusion import confusion_part, disagreement, labels_part
from .html import html
from .shown import Chosen, Shown, counted, timed


def read_chosen(run: Run, tables: Mapping[str, LatencyTable]) -> list[Chosen]:
    """The networks in specialised/, fastest first; `tables` are latency tables by device name."""
    networks = []
    for name, made in specialised_in(run).items():
        device = tables[made.device].device.spec if made.device in tables else made.device
        plan, metric = run.space.lower(made.arch, run.num_classes), made.metric or run.metric
        networks.append(Chosen(name, device, made, plan, run.info.classes, metric))
    return sorted(networks, key=lambda network: network.made.latency.ms)


def chosen(runs: Sequence[Shown]) -> Markup:
    """Table and pictures of the specialized networks."""
    without, words = [run for run in runs if not run.chosen], "No network was specialized yet."
    missing = Markup().join(run.empty(words, f"specialise {{run}} --latency {_middle(run)}") for run in without)
    named = [(run.label(one.name), one) for run in runs for one in run.chosen]
    if not named:
        return missing
    names = list(dict.fromkeys(one.reported[0] for _, one in named))
    score = names[0] if len(names) == 1 else "score"
    words = f"Measured on the exported files: latency on the device, {score} on test images that were not used for any choice."
    header = ["network", "asked for", "latency", f"test {score}", "MACs", "parameters", "activations"]
    rows = [
        [
            (name, one.device),
            str(one.made.budget),
            _latency(one.made),
            counted(*one.score(one.metric), one.made.test.images),
            amount(one.plan.macs),
            amount(one.plan.params),
            memory(one.plan.peak_memory_bytes),
        ]
        for name, one in named
    ]
    drawn = Markup().join(_drawn(name, one) for name, one in named)
    disagreements = Markup().join(_disagreement(run) for run in runs)
    return Markup(html.soft(words) + html.table("Chosen networks", header, rows, 2) + disagreements + drawn + missing)


def _disagreement(run: Shown) -> Markup:
    """Where the smallest and the largest network disagree, if they differ and were tested on the same images."""
    known = [one for one in run.chosen if one.made.wrong]
    small, large = (end(known, key=lambda one: one.plan.macs, default=None) for end in (min, max))
    if small is None or large is None or small.made.arch == large.made.arch or small.made.test.images != large.made.test.images:
        return Markup()
    return disagreement(*((run.label(one.name), one.made) for one in (small, large)))


def _latency(made: Specialised) -> tuple[str, str]:
    most, latency = made.budget.latency_ms, made.latency
    return timed(latency.ms, latency.low, latency.high, f", {100 * latency.ms / most:.0f} % of budget" if most else "")


def _middle(run: Shown) -> str:
    """A suggested latency limit: the middle of the first device's front."""
    (device, _), series = next(iter(run.fronts.items()), ((None, ""), FrontSeries("")))
    costs = sorted(cost for cost, _ in series.front) if device is not None else []
    return f"{costs[len(costs) // 2]:.2g}ms" if costs else "5ms"


def _drawn(name: str, one: Chosen) -> Markup:
    (metric, value), made = one.reported, one.made
    pairs = [("latency", milliseconds(made.latency.ms)), (f"test {metric}", percent(value))]
    if made.predicted_ms is not None:
        pairs.append(("predicted latency", milliseconds(made.predicted_ms)))
    if made.predicted_top1 is not None:
        pairs.append((f"predicted held-out {METRICS[one.metric]}", percent(made.predicted_top1)))
    picture = Markup(draw(one.plan, made.arch, shares=made.shares or None))
    header = ["part", "kernel", "expand ratio", "channels out", "size out", "MACs", "share of latency"]
    blocks = html.table(f"Blocks of {name}", header, _blocks(one))
    more = [f"test {METRICS[one.metric]} through it"] if any(file.score is not None for file in made.files) else []
    rows = [
        [
            file.format,
            percent(file.reported[1]),
            *(percent(file.score) for _ in more),
            timed(*file.latency) if file.latency else "–",
        ]
        for file in made.files
    ]
    header = ["file", f"test {made.test.told[0]} through it", *more, "latency through it"]
    files = html.table(f"Files of {name}", header, rows) if rows else ""
    mistakes = (
        confusion_part(name, made.confusion, one.classes, made.mistakes, one.metric) if made.confusion is not None else Markup()
    )
    if made.labels is not None:
        mistakes = labels_part(name, made.labels, one.classes)
    return Markup(html.article(name, pairs, picture, blocks, mistakes + files, str(made.folder)))


def _blocks(one: Chosen) -> list[list[str]]:
    ratios = {f"stages.{s}.{i}": b.expand_ratio for s, stage in enumerate(one.made.arch.stages) for i, b in enumerate(stage.blocks)}
    rows = []
    for segment in one.plan.segments:
        kernel, ratio, size = look_of(segment).kernel, ratios.get(segment.name), pixels(segment.out_shape)
        rows.append(
            [
                segment.name,
                "–" if kernel is None else f"{kernel}×{kernel}",
                "–" if ratio is None else f"{ratio:g}",
                f"{channels(segment.out_shape):,}",
                f"{size[0]}×{size[0]}" if size else "–",
                amount(segment.macs),
                percent(one.made.shares.get(segment.name)),
            ]
        )
    return rows
