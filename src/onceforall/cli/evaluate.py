"""`ofa evaluate`: accuracies of a run's sub-networks, and of exported networks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from ..common.progress import Progress
from ..common.readable import between, percent, plural, wilson
from ..options.declare import Flag
from ..options.measuring import EvaluateOptions
from ..resolutions import in_pixels
from ..scores import CLASS_HEADER, METRICS, UNEVEN, Confusion, Difference, imbalance_of
from ..tasks.label_scores import LABEL_HEADER, LabelDifference, LabelScores
from .views import tell

OPTIMISTIC = "too optimistic for others"
EXAMPLES = 5  # images on which two networks disagree


def evaluate_command(
    o: EvaluateOptions,
    as_json: bool,
    *,
    by_class: Annotated[bool, Flag("Recall and precision of each class, and the most frequent mistakes.")] = False,
) -> None:
    """Evaluate sub-networks of a run, or an exported network."""
    from ..pipeline import Run

    if o.is_export:
        _evaluate_export(o, as_json, by_class)
        return
    run = Run.open(o.folder)
    classes = run.info.classes
    from ..pipeline.evaluate import evaluate

    results, split = evaluate(o, progress=Progress(say=tell, result=lambda r: tell(f"{r.name} done"))), o.split or "held-out"
    difference = _difference(results, run.metric) if o.against is not None else None
    if as_json:
        records = [
            {"name": r.name, "split": split, **asdict(r.accuracy), "arch": json.loads(r.arch.to_json()), **_scores(r, classes)}
            for r in results
        ]
        print(json.dumps(records if difference is None else _compared(records, difference, results)))
        return
    own = split == "held-out"  # thresholds are chosen on these images
    for r in results:
        metric, value = r.accuracy.told
        top5 = f", top-5 {percent(r.accuracy.top5, 2)}" if len(classes) > 5 and not r.labels else ""  # else it is always 100 %
        interval = r.labels.interval if r.labels else wilson(value, r.accuracy.images)
        top = f"{metric} {percent(value, 2)}{between(interval)}{top5}, loss {r.accuracy.loss:.3f}"
        more = _uneven(r.confusion, run.metric) if r.confusion else _chance(r.labels, own)
        scores = f"{top} ({r.accuracy.images} {split} images){more}"
        print(f"{r.name}: {in_pixels(r.arch.resolution)}, depths {r.arch.depths}: {scores}")
        if by_class:
            _tell_classes(r, classes)
    if difference is not None:
        one, other = results
        same = f"{one.name} and {other.name} are the same network"
        print(same if one.arch == other.arch else difference.told(one.name, other.name))
        _tell_examples([(r.name, r) for r in results])


def _evaluate_export(o: EvaluateOptions, as_json: bool, by_class: bool) -> None:
    from ..pipeline.evaluate_export import evaluate_exports

    folders = [o.folder, *([Path(o.against)] if o.against is not None else [])]
    found = evaluate_exports(
        folders, str(o.images), part=o.split, format=o.format, network=o.network, reading=o.reading, progress=Progress(say=tell)
    )
    for name, why in found[0].unreadable:
        tell(f"{name}: {why}")
    difference = _difference(found) if o.against is not None else None
    if as_json:
        records = [
            {
                "export": str(r.export),
                "format": r.format,
                "split": r.part,
                "images": r.images,
                "trained_on": r.trained_on.known,
                "trained_on_complete": r.trained_on.complete,
                "trained_on_about": r.trained_on.about,
                **_scores(r, r.classes),
            }
            for r in found
        ]
        print(json.dumps(records if difference is None else _compared(records, difference, found)))
        return
    for r in found:
        if r.labels is not None:
            top = f"mAP {percent(r.labels.map, 2)}{between(r.labels.interval)}"
        elif r.confusion is not None:
            top = f"top-1 {percent(r.confusion.top1, 2)}{between(r.confusion.interval('top1'))}"
        more = _uneven(r.confusion) if r.confusion else _chance(r.labels)
        image = "image" if r.part == "all" else f"{r.part} image"
        print(f"{r.export}: {top} on {plural(r.images, image)}{more}")
        if r.trained_on.known:
            what = f"{r.trained_on} of these images are among those that the network was trained on"
            tell(f"{r.export}: {what}: accuracy on new ones may be lower")
        if by_class:
            _tell_classes(r, r.classes)
    if difference is not None:
        same = f"{folders[0]} and {folders[1]} are the same network"
        print(same if _same_export(*folders) else difference.told(*map(str, folders)))
        _tell_examples([(str(r.export), r) for r in found])


def _same_export(one: Path, other: Path) -> bool:
    """Whether two folders hold the same network with the same weights; for a bundle, whether they are one folder."""
    files = [[folder / name for folder in (one, other)] for name in ("arch.json", "weights.safetensors")]
    alike = (a.is_file() and b.is_file() and a.read_bytes() == b.read_bytes() for a, b in files)
    return one.resolve() == other.resolve() or all(alike)


def _compared(records: list[dict[str, Any]], difference: Difference | LabelDifference, found: Sequence[Any]) -> dict[str, Any]:
    """The comparison of two networks, with the images that only one gets right."""
    alone = [list(_alone(one, other)) for one, other in (found, found[::-1])]
    record = asdict(difference)
    if isinstance(difference, Difference):
        low, high = difference.interval
        record |= {"top1": difference.top1, "low": low, "high": high, "chance": difference.chance}
        if difference.score is not None:
            record["score"] = dict(zip(("difference", "low", "high"), difference.score, strict=True))
    return {"networks": records, "difference": {**record, "alone": alone}}


def _alone(one: Any, other: Any) -> Iterator[str]:
    """Images that one gets right and the other wrong; none if images have several labels, which are rarely all right."""
    if one.right is not None and one.labels is None:
        yield from (name for name, own, others in zip(one.names, one.right, other.right, strict=True) if own and not others)


def _tell_examples(found: Sequence[tuple[str, Any]]) -> None:
    """Print examples of images on which two networks disagree."""
    for (name, one), (_, other) in (found, found[::-1]):
        if examples := list(islice(_alone(one, other), EXAMPLES)):
            print(f"  {name} alone is right on, for example: {', '.join(examples)}")


def _difference(pair: Sequence[Any], metric: str = "top1") -> Difference | LabelDifference:
    """The difference of two evaluations by the images that each gets right, and by the metric; by mAP with several labels."""
    first, second = pair
    if first.answers is not None and second.answers is not None:
        return LabelDifference.of(first.answers, second.answers)
    return Difference.between(metric, first.wanted, first.predicted, second.predicted)


def _scores(found: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Scores of an evaluation besides accuracy."""
    confusion: Confusion | None = found.confusion
    if (labels := found.labels) is not None:
        return {
            "map": labels.map,
            "interval": labels.interval,
            "chance": labels.chance,
            "macro_f1": labels.macro_f1,
            "labels": [asdict(row) for row in labels.by_label(classes)],
        }
    if confusion is None:
        return {}
    return {
        "top1": confusion.top1,
        "interval": confusion.interval("top1"),
        "balanced": confusion.balanced,
        "balanced_interval": confusion.interval("balanced"),
        "macro_f1": confusion.macro_f1,
        "majority": confusion.majority,
        "calibration_error": confusion.calibration_error,
        "classes": [asdict(row) for row in confusion.by_class(classes)],
        "confusion": confusion.counts.tolist(),
    }


def _chance(labels: LabelScores | None, own: bool = False) -> str:
    """What mAP hides about several labels per image; `own`: the thresholds were chosen on the same images."""
    if labels is None:
        return ""
    how = f" (at thresholds chosen on these images: {OPTIMISTIC})" if own else ""
    return f"; macro F1 {percent(labels.macro_f1, 2)}{how}; chance level: mAP {percent(labels.chance, 2)}"


def _tell_classes(found: Any, classes: Sequence[str]) -> None:
    """Print a row for each class or label; for classes also the most frequent mistakes and the calibration error."""
    if found.labels is not None:
        print("\n".join(_columns([LABEL_HEADER, *found.labels.rows(classes)])))
    elif (confusion := found.confusion) is not None:
        lines = _columns([CLASS_HEADER, *confusion.rows(classes)])
        mistakes = [f"{label} taken for {predicted} ({number:,})" for label, predicted, number in confusion.mistaken(classes, 5)]
        lines.append(f"  most frequent mistakes: {', '.join(mistakes) or 'none'}")
        lines.append(f"  confidence and accuracy differ by {percent(confusion.calibration_error)} on average (calibration error)")
        print("\n".join(lines))


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]


def _uneven(confusion: Confusion, metric: str = "top1") -> str:
    """What top-1 hides about uneven classes; "" for balanced ones, unless the run's metric is another."""
    if metric == "top1" and imbalance_of(confusion.counts.sum(1)) <= UNEVEN:
        return ""
    balanced = f"balanced accuracy {percent(confusion.balanced, 2)}{between(confusion.interval('balanced'))}"
    scores = f"{balanced}, macro F1 {percent(confusion.macro_f1, 2)}"
    chance = [f"{METRICS[name]} {percent(confusion.baseline(name), 2)}" for name in dict.fromkeys(("top1", metric))]
    return f"; {scores}; always predicting the largest class: {', '.join(chance)}"
