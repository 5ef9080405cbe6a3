"""A network's confusion matrix: picture, table, most frequent mistakes, photographs; a table for multi-label networks."""

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from ..common.readable import percent
from ..pipeline.specialising.mistakes import Mistake, from_bits
from ..pipeline.specialising.record import Specialised
from ..scores import CLASS_HEADER, METRICS, Confusion, Difference
from ..tasks.label_scores import LABEL_HEADER, LabelScores
from .html import html

MOST_CLASSES = 40  # with more, there is no picture
CELL, LETTER = 22, 6.4  # pixels of a cell, and mean width of a letter
LONGEST = 22  # letters of a name


def confusion_part(
    name: str, confusion: Confusion, classes: Sequence[str], photographs: Sequence[Mistake] = (), metric: str = "top1"
) -> Markup:
    """Numbers, picture, table and photographs; with very many classes only the mistakes."""
    mistakes = [f"{label} taken for {predicted} ({number:,})" for label, predicted, number in confusion.mistaken(classes, 8)]
    body = html.numbers(numbers_of(confusion, metric)) + html.soft(f"Most frequent mistakes: {'; '.join(mistakes) or 'none'}.")
    groups: dict[tuple[int, int], list[Mistake]] = {}
    for one in photographs:
        groups.setdefault((one.label, one.said), []).append(one)
    places = {pair: f"mistakes-{re.sub(r'[^0-9A-Za-z]+', '-', name)}-{pair[0]}-{pair[1]}" for pair in groups}
    if len(classes) <= MOST_CLASSES:
        table = html.table(f"Classes of {name}", CLASS_HEADER, confusion.rows(classes))
        caption = "Rows: true classes. Columns: predicted classes."
        body += html.figure(f"{caption} Framed squares link to photographs." if groups else caption,
                            confusion_picture(confusion, classes, places), table)  # fmt: skip
    shown = [(places[i, j], f"{classes[i]} taken for {classes[j]}", group) for (i, j), group in groups.items()]
    return Markup(body + (html.mistakes(f"The most confident mistakes of {name}", shown, percent) if shown else ""))


def disagreement(small: tuple[str, Specialised], large: tuple[str, Specialised]) -> Markup:
    """Where two networks, given with their names, disagree on the same test images, and whether one is better by more than chance.

    The photographs are the most confident mistakes that only one of the networks makes.
    """
    (name, first), (other, second) = small, large
    wrong, others = (from_bits(made.wrong, made.test.images) for made in (first, second))
    words = f"By top-1: {Difference.of(~others, ~wrong).told(other, name)}"
    groups = [
        (f"{bad} is wrong, {good} is right", [one for one in made.mistakes if one.place is not None and not also[one.place]])
        for bad, good, made, also in ((name, other, first, others), (other, name, second, wrong))
    ]
    shown = [(f"disagree-{i}", caption, group) for i, (caption, group) in enumerate(groups) if group]
    title = f"Photographs on which {name} and {other} disagree"
    return Markup(html.soft(f"{words}.") + (html.mistakes(title, shown, percent) if shown else ""))


def numbers_of(scores: Confusion | LabelScores, metric: str) -> list[tuple[str, str]]:
    """Names and values of further scores besides top-1 or mAP; the majority class is scored by the metric."""
    if isinstance(scores, LabelScores):
        return [("macro F1 at the thresholds", percent(scores.macro_f1)), ("mAP by chance", percent(scores.chance))]
    return [
        ("balanced accuracy", percent(scores.balanced)),
        ("macro F1", percent(scores.macro_f1)),
        (f"{METRICS[metric]} of the majority class", percent(scores.baseline(metric))),
        ("calibration error", percent(scores.calibration_error)),
    ]


def labels_part(name: str, labels: LabelScores, classes: Sequence[str]) -> Markup:
    """The scores of a multi-label network for each label."""
    words = (
        "Recall, precision and F1 at thresholds that were chosen on held-out images; chance is the share of images with the label."
    )
    table = html.table(f"Labels of {name}", LABEL_HEADER, labels.rows(classes))
    return Markup(html.numbers(numbers_of(labels, "map")) + html.soft(words) + table)


def confusion_picture(confusion: Confusion, classes: Sequence[str], places: Mapping[tuple[int, int], str]) -> Markup:
    """A square for each pair of classes, more opaque for a larger share of its row; `places` are link targets of some squares."""
    names = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in classes]
    margin = round(LETTER * max(map(len, names))) + 12
    side = CELL * len(names)
    parts = [
        (
            f'<svg viewBox="0 0 {margin + side + 4} {margin + side + 4}" width="{margin + side + 4}" role="img" '
            f'aria-label="Which classes are taken for which">'
        )
    ]
    for i, (name, images) in enumerate(zip(names, confusion.counts.sum(1).tolist(), strict=True)):
        middle = margin + CELL * i + CELL / 2 + 4
        parts.append(f'<text x="{margin - 6}" y="{middle:g}" text-anchor="end" font-size="11">{escape(name)}</text>')
        turned = f'x="{middle:g}" y="{margin - 6}" transform="rotate(-90 {middle:g} {margin - 6})"'
        parts.append(f'<text {turned} font-size="11">{escape(name)}</text>')
        for j, number in enumerate(confusion.counts[i].tolist()):
            place = f'x="{margin + CELL * j + 1}" y="{margin + CELL * i + 1}" width="{CELL - 2}" height="{CELL - 2}"'
            color = "var(--c0)" if i == j else "var(--c1)"
            tip = f"<title>{escape(classes[i])} taken for {escape(classes[j])}: {number:,} of {images:,}</title>"
            opacity = 0.15 + 0.85 * (number / images if images else 0.0)
            parts.append(f'<rect {place} fill="var(--ink)" fill-opacity="0.05">{tip}</rect>')
            if number:
                frame = ' stroke="var(--ink)"' if (i, j) in places else ""
                square = f'<rect {place} fill="{color}" fill-opacity="{opacity:.2f}"{frame}>{tip}</rect>'
                parts.append(f'<a href="#{places[i, j]}">{square}</a>' if frame else square)
                text = f'x="{margin + CELL * j + CELL / 2:g}" y="{middle:g}" text-anchor="middle" font-size="9"'
                parts.append(f'<text {text} pointer-events="none">{number if number < 1000 else f"{number / 1000:.0f}k"}</text>')
    return Markup("".join(parts) + "</svg>")
