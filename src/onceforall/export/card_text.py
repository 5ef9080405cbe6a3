"""Text of cards: Markdown of the templates, and the YAML head that Hugging Face reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..common.readable import milliseconds, percent, table, wilson
from ..scores import METRICS
from .bundle import Interval
from .program import ACCURACY
from .proof import ABOUT_FLOAT32, Proof

PROOF = ["compared with", "largest difference of a logit", "float32 itself", "allowed", "same top-1", "images"]


def card_of(template: str, **values: Any) -> str:
    """Render a card. Texts are inserted unescaped unless the filters `plain` or `code` are used."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, since few processes write a card

    cards = Environment(loader=PackageLoader("onceforall.export"), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    cards.filters |= {"plain": escaped, "code": _code}
    shared = {"table": table, "accuracy": ACCURACY, "about_proof": ABOUT_FLOAT32, "proof_header": PROOF}
    return cards.get_template(template).render(shared | values).rstrip() + "\n"


def head_of(
    results: Mapping[str, float],
    data: str,
    tags: Sequence[str],
    *,
    license: str | None = None,
    on_hub: bool = False,
    metric: str = METRICS["top1"],
    others: Mapping[str, float] | None = None,
) -> str:
    """The YAML head that Hugging Face reads.

    Args:
        results: test results by network name.
        license: its name on the Hub.
        on_hub: whether the data may have a page of this name on the Hub.
        metric: the metric of the results, top-1 or mAP.
        others: further scores of a single network, by the metric's name.
    """
    import yaml

    kind = "accuracy" if metric == METRICS["top1"] else "mean_average_precision"
    more = [
        {"type": name.lower().replace(" ", "_"), "name": f"test {name}", "value": round(value, 6)}
        for name, value in (others or {}).items()
    ]
    head = {
        **({} if license is None else {"license": license}),
        **({"datasets": [data]} if on_hub else {}),
        "library_name": "onceforall",
        "pipeline_tag": "image-classification",
        "tags": ["once-for-all", *tags],
        "metrics": [kind, *(score["type"] for score in more)],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": data, "type": data, "split": "test"},
                        "metrics": [{"type": kind, "name": f"test {metric}", "value": round(value, 6)}, *more],
                    }
                ],
            }
            for name, value in results.items()
        ],
    }
    text: str = yaml.dump(head, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True, width=1e6)
    return text.rstrip()


def proof_rows(proof: Proof) -> list[list[str]]:
    """Rows under `PROOF`."""
    compared = {"extracted network": proof.extracted, "sub-network of the supernet": proof.active}
    return [
        [
            other,
            *(f"{number:.2g}" for number in (result.max_abs_diff, result.float32_error, result.tolerance)),
            percent(result.top1_agreement),
            f"{result.images:,}",
        ]
        for other, result in compared.items()
        if result is not None
    ]


def top1_text(top1: float, images: int) -> str:
    """Top-1 with its 95 % interval."""
    low, high = wilson(top1, images)
    return f"{percent(top1)} ({100 * low:.1f} – {100 * high:.1f})"


def latency_text(latency: Interval | None) -> str:
    """The latency with its 95 % interval; "" if there is none."""
    return "" if latency is None else f"{milliseconds(latency[0])} ({latency[1]:.3g} – {latency[2]:.3g})"


def escaped(text: str) -> str:
    """Text on one line, escaped for Markdown and HTML."""
    for letter in "\\`*_[]<>|#":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def _code(text: str) -> str:
    """Text between backticks, on one line."""
    return " ".join(text.replace("`", "'").split())
