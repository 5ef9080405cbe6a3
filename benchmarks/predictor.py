"""Accuracy predictors by kind of model and number of measured sub-networks; and what it saves to let the predictor choose these.

    OMP_NUM_THREADS=1 python benchmarks/predictor.py published acc_predictor.pth [SEEDS]
    OMP_NUM_THREADS=1 python benchmarks/predictor.py active acc_predictor.pth [SEEDS]
    OMP_NUM_THREADS=1 python benchmarks/predictor.py rows RUN [SEEDS]

`published` takes the ImageNet predictor of the Once-for-All authors (w1.2, 160 to 224 pixels) as the truth, and measures it with
the chance of counting 10,000 images. Fitted to networks of `spread`, checked on 1,000 others. "tau" is against what was measured,
which chance limits to "ceiling"; "true tau" and "true RMSE" are against the truth.

`active` starts with 100 networks of `spread` and adds 50 at a time, of `spread` or of `suggest`. After each, the ten best
networks within each of six limits on MACs are searched by the predictor; the mean of their true accuracies is what counts.

`rows` takes what `ofa accuracy measure` left in a run: the networks that `ofa predict` set aside check, random others are fitted
to.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import onceforall
from onceforall.accuracy import AccuracyPredictor, assess, kendall_ceiling, measurement_noise, read_rows, spread, suggest
from onceforall.accuracy.choose import LEARNERS, relatives
from onceforall.common.statistics import kendall_tau
from onceforall.costs import macs_table, segment_table
from onceforall.genes import Genes
from onceforall.pipeline import Run
from onceforall.pipeline.accuracies.predictor import checks
from onceforall.search import maximise

SPACE = onceforall.space("mobilenet_v3", width=1.2, resolutions=(160, 176, 192, 208, 224))
MACS = macs_table(segment_table(SPACE, 1000))
SAMPLES = (100, 300, 1000, 3000)
IMAGES, CHECKED = 10_000, 1000
BATCH, MOST = 50, 400
LIMITS, TOP, SEARCHED = 6, 10, 8000
ROWS = 50_000  # for the rate of prediction

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Line:
    """One fit: what is printed, by name."""

    samples: int
    kind: str
    numbers: dict[str, float]


def print_means(lines: list[Line]) -> None:
    """Means over the seeds, and the standard deviation of the coverage."""
    names = list(lines[0].numbers)
    print(f"{'samples':>7}  {'kind':18}" + "".join(f"{name:>14}" for name in names), flush=True)
    for samples, kind in dict.fromkeys((line.samples, line.kind) for line in lines):
        found = [line.numbers for line in lines if (line.samples, line.kind) == (samples, kind)]
        means = "".join(f"{np.mean([numbers[name] for numbers in found]):14.4g}" for name in names)
        print(f"{samples:>7}  {kind:18}{means}   n = {len(found)}", flush=True)


def measured(true: Floats, rng: np.random.Generator) -> Floats:
    return rng.binomial(IMAGES, true) / IMAGES


def rate(predictor: AccuracyPredictor, genes: Genes) -> tuple[float, float]:
    """Rows a second of `score`, and of `predict_with_error`."""
    rates = []
    for call in (predictor.score, predictor.predict_with_error):
        call(genes[:10])
        start = time.perf_counter()
        call(genes)
        rates.append(len(genes) / (time.perf_counter() - start))
    return rates[0], rates[1]


def published(path: Path, seeds: int) -> None:
    truth = AccuracyPredictor.from_published(path, SPACE)
    genes = SPACE.sample_genes(np.random.default_rng(0), ROWS)
    lines = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        others = SPACE.genes(spread(SPACE, rng, CHECKED, MACS))
        true = truth.score(others)
        seen = measured(true, rng)
        noise = float(np.sqrt(np.mean(true * (1 - true)) / IMAGES))
        for samples in SAMPLES:
            archs = SPACE.genes(spread(SPACE, rng, samples, MACS))
            y = measured(truth.score(archs), rng)
            for kind in ("chosen", *LEARNERS):
                start = time.perf_counter()
                fitted = AccuracyPredictor.fit(SPACE, archs, y, kinds=None if kind == "chosen" else [kind], noise=noise, seed=seed)
                seconds = time.perf_counter() - start
                score, (_, std) = fitted.score(others), fitted.predict_with_error(others, measured=False)
                errors = assess(fitted, others, seen)
                numbers = {
                    "RMSE, points": 100 * errors.rmse,
                    "tau": errors.kendall_tau,
                    "ceiling": kendall_ceiling(score, seen, noise),
                    "90 % holds": errors.coverage90,
                    "true RMSE": 100 * float(np.sqrt(np.mean((score - true) ** 2))),
                    "true tau": kendall_tau(score, true),
                    "true 90 %": float(np.mean(np.abs(score - true) <= 1.645 * std)),
                    "fit, s": seconds,
                }
                numbers |= dict(zip(("score/s", "with error/s"), rate(fitted, genes), strict=True))
                lines.append(Line(samples, kind, numbers))
                if kind == "chosen":
                    print(f"seed {seed}, {samples} samples: {fitted.kind} was chosen", flush=True)
    print_means(lines)


def active(path: Path, seeds: int) -> None:
    truth = AccuracyPredictor.from_published(path, SPACE)
    ends = np.log(MACS.estimate([SPACE.smallest(), SPACE.largest()]))
    limits = np.exp(np.linspace(*ends, LIMITS + 2))[1:-1]

    def reached(predictor: AccuracyPredictor) -> float:
        tops = []
        for limit in limits.tolist():
            bound = {"macs": (MACS.estimate, limit)}
            found = maximise(SPACE, predictor.score, bound, evaluations=SEARCHED, proof_s=0.0)
            tops.append(truth.score([finalist.arch for finalist in found.top(TOP)]).mean())
        return float(np.mean(tops))

    lines = []
    for seed in range(seeds):
        for how in ("spread", "suggest"):
            rng = np.random.default_rng(seed)
            genes = SPACE.genes(spread(SPACE, rng, 100, MACS))
            y = measured(truth.score(genes), rng)
            while True:
                fitted = AccuracyPredictor.fit(SPACE, genes, y, kinds=["linear", "pairwise", "smooth"], seed=seed)
                lines.append(Line(len(genes), how, {"true top-1, %": 100 * reached(fitted)}))
                print(f"seed {seed}, {how}: {lines[-1].numbers} at {len(genes)}", flush=True)
                if len(genes) >= MOST:
                    break
                if how == "suggest":
                    more = suggest(fitted, MACS, BATCH, known=SPACE.archs(genes), seed=len(genes))
                else:
                    more = spread(SPACE, rng, BATCH, MACS)
                genes = np.concatenate([genes, SPACE.genes(more)])
                y = np.concatenate([y, measured(truth.score(more), rng)])
    print_means(lines)


def rows(folder: Path, seeds: int) -> None:
    run = Run.open(folder)
    every = read_rows(folder / "accuracy", run.space, weights_hash=run.weights_hash())
    _, checked = checks(run)
    aside = {row.arch for row in checked}
    known = [row for row in every if row.arch not in aside]
    noise = measurement_noise(every)
    others, seen = run.space.genes([row.arch for row in checked]), np.array([row.top1 for row in checked])
    loss = np.array([row.loss for row in checked])
    print(f"{len(known)} to fit to, {len(checked)} to check, {checked[0].images} images, noise {100 * (noise or 0):.3f} points")
    print(
        f"top-1 {100 * seen.min():.2f} to {100 * seen.max():.2f}, deviation {100 * seen.std():.3f} points, tau with the loss",
        end=" ",
    )
    print(f"{-kendall_tau(loss, seen):.3f}")
    lines = []
    family = relatives(run.space, run.space.genes([row.arch for row in known]))
    for seed, samples in ((seed, samples) for seed in range(seeds) for samples in SAMPLES if samples <= len(known)):
        place = np.random.default_rng(seed).permutation(family.max() + 1)
        part = [known[i] for i in np.argsort(place[family], kind="stable")[:samples]]
        archs, y = run.space.genes([row.arch for row in part]), [row.top1 for row in part]
        for kind, losses in _ways():
            fitted = AccuracyPredictor.fit(
                run.space,
                archs,
                y,
                losses=[row.loss for row in part] if losses else None,
                kinds=None if kind == "chosen" else [kind],
                noise=noise,
                seed=seed,
            )
            errors = assess(fitted, others, seen)
            score = fitted.score(others)
            numbers = {
                "RMSE, points": 100 * errors.rmse,
                "tau": errors.kendall_tau,
                "ceiling": kendall_ceiling(score, seen, noise or 0.0),
                "90 % holds": errors.coverage90,
                "tau with loss": -kendall_tau(score, loss),
            }
            lines.append(Line(samples, kind if losses else f"{kind}, no loss", numbers))
            if kind == "chosen":
                print(f"seed {seed}, {samples} samples: {fitted.kind} was chosen", flush=True)
    print_means(lines)


def _ways() -> Iterator[tuple[str, bool]]:
    yield from (("chosen", True), ("chosen", False))
    yield from ((kind, True) for kind in LEARNERS)


MODES = {"published": published, "active": active, "rows": rows}


def main(arguments: list[str]) -> None:
    if len(arguments) not in (2, 3) or arguments[0] not in MODES:
        sys.exit(__doc__)
    MODES[arguments[0]](Path(arguments[1]), int(arguments[2]) if len(arguments) == 3 else 3)


if __name__ == "__main__":
    main(sys.argv[1:])
