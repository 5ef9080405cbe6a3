"""`ofa classify`: classify photographs with an exported network, through any of its files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arch import Arch
from ..backends.format import in_batches
from ..common.advice import did_you_mean, not_an_export
from ..common.arguments import takes
from ..common.files import read_json, read_text, reading_or_writing
from ..common.progress import QUIET, Progress
from ..common.readable import plural
from ..data.formats.scan import LeftOut, left_out_line, marks_above, printable, walk
from ..data.originals import DIM, FRAMES
from ..errors import DataError, FileError, MissingExtraError, VerificationError
from ..export import FORMATS, ExportConfig, InputSteps, load, load_bundle
from ..export.place import errors_name
from ..options.choosing import ClassifyOptions
from ..preprocess import FOUND, load_for, prepare_loaded
from ..resolutions import Resolution
from ..tasks.task import task_of

TOP = 5
FIRST = ("onnx", "pytorch")  # the fastest to start, then the one without extra packages
ASKED_FOR = frozenset({"torch-export"})  # only on request: such a file is a program, and the folder may be from elsewhere
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Classified:
    """The result for one photograph.

    Args:
        format: format of the file that was run, a name in `onceforall.export.FORMATS`.
        classes: names and probabilities, most likely first; empty if the photograph cannot be read. A multi-label network gives
            the labels that reach their thresholds, possibly none, or the `--top` most likely.
        error: why it cannot be read; None if it can.
        thresholds: multi-label only: for each of `classes`, the probability from which the label counts as present.
    """

    photo: Path
    format: str
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    thresholds: tuple[float, ...] = ()


@takes(ClassifyOptions)
def classify(options: ClassifyOptions, *, progress: Progress = QUIET) -> list[Classified]:
    """Classify photographs, prepared as in training and evaluation by `onceforall.preprocess`.

    Args:
        progress: its `result` gets each result as soon as it is available.

    Returns:
        A result for each photograph, in order; unreadable ones have an error in place of classes.

    Raises:
        FileError: the folder is not an export, or is damaged.
        DataError: there are no photographs.
        VerificationError: the format is unknown or not in the folder, or the file cannot be run.
        MissingExtraError: the format needs a package that is not installed.
    """
    if options.top is not None and options.top < 1:
        raise DataError(f"--top {options.top}: give a number of classes of at least 1")
    files = [file for photo in options.photos for file in _files(Path(photo), progress)]
    if not files:
        raise DataError("no photographs: give files or folders")
    chosen, config, run = opened_export(Path(options.export), options.format, options.network)
    steps, results, found = config.preprocessing.to_json(), list[Classified](), list[Mapping[str, Any]]()
    for file in files:
        try:
            whole = load_for(file, steps)
            images = torch.from_numpy(prepare_loaded(whole, steps))
            found.append(whole.info[FOUND])
        except ValueError as error:
            near = "" if file.exists() else did_you_mean(file)
            result = Classified(file, chosen, error=f"{error}: {near}" if near else str(error))
        else:
            outputs = run(images)
            if outputs.shape != (1, len(config.classes)):
                text = (
                    f"outputs of shape {tuple(outputs.shape)} for one photograph, but config.json has {len(config.classes)} classes"
                )
                raise VerificationError(f"{Path(options.export)}: its {FORMATS[chosen].files[0]} has {text}: export it again")
            likely = _likely(outputs[0], config, options.top)
            thresholds = tuple(config.thresholds[i] for i, _ in likely) if config.thresholds else ()
            result = Classified(file, chosen, tuple((config.classes[i], p) for i, p in likely), thresholds=thresholds)
        results.append(result)
        progress.result(result)
    for line in unlike_training(found, config.preprocessing):
        progress.say(line)
    return results


def unlike_training(found: Sequence[Mapping[str, Any]], steps: InputSteps) -> list[str]:
    """Remarks on photographs that differ from what the network takes; `found` is what `onceforall.preprocess` noted of each."""
    images, lines = plural(len(found), "photograph"), []
    colour, opaque, frames = (sum(facts.get(name, False) for facts in found) for name in ("colour", "opaque", "frames"))
    deep = [facts["most"] for facts in found if "most" in facts]
    if frames:
        lines.append(f"{frames:,} of {images} have several {FRAMES}")
    if colour:
        lines.append(f"{colour:,} of {images} show colors: the network takes gray images, so it was given their luminance")
    if opaque:
        lines.append(f"{opaque:,} of {images} have no alpha channel, which the network takes: it was given 255 everywhere")
    dim = [most for most in deep if most < DIM]
    if steps.range is None and 2 * len(dim) > len(deep):
        lines.append(
            f"{len(dim):,} of {images} have 16 bits and no value above {max(dim):,.0f} of 65,535: to the network they are that "
            "dark, since it was trained without --range"
        )
    if steps.range is not None and len(deep) < len(found):
        low, high = steps.range
        what = f"{len(found) - len(deep):,} of {images} are not gray images of more than 8 bits"
        lines.append(f"{what}: the network's --range {low:g},{high:g} does not apply to them")
    return lines


def _likely(probabilities: Tensor, config: ExportConfig, top: int | None) -> list[tuple[int, float]]:
    """The most likely of `probabilities` (classes,), best first; for multi-label networks without `top`, those above threshold."""
    ranked = probabilities.double().sort(descending=True, stable=True)
    found = list(zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True))
    if config.thresholds and top is None:
        return [(i, probability) for i, probability in found if probability >= config.thresholds[i]]
    return found[: top or TOP]


def _files(path: Path, progress: Progress) -> Iterator[Path]:
    """The file, or the images in the folder sorted by path; a `DataError` if the folder has no images."""
    if not path.is_dir():
        yield path  # even if it does not exist: that is reported when its turn comes
        return
    images: list[Path] = []
    left_out: LeftOut = {}
    with reading_or_writing(path):
        for found in walk(str(path), marks_above(str(path))):
            file = Path(found.entry.path)
            if found.kind == "image":
                images.append(file)
            else:
                left_out.setdefault(found.reason, []).append(printable(str(file.relative_to(path))))
    without = f"left out: {left_out_line(left_out)}" if left_out else ""
    if not images:
        raise DataError(f"{path}: no photographs in it{without and f': {without}'}: give files, or a folder with some in it")
    if without:
        progress.say(f"{path}: {without}")
    yield from sorted(images)


def opened_export(folder: Path, format: str | None, network: str | None) -> tuple[str, ExportConfig, Run]:
    """Format name, config with the network's resolution, and a function from images (1, c, h, w) to probabilities (1, classes)."""
    if (folder / "bundle.json").is_file():
        return _of_bundle(folder, format, network)
    if why := not_an_export(folder):
        raise FileError(why)
    if network is not None:
        raise DataError(f"--network {network}: {folder} has one network only: leave it out")
    with errors_name(folder / "arch.json") as path:
        arch = Arch.from_json(read_text(path))
    with errors_name(folder / "config.json") as path:
        config = _at(ExportConfig.from_json(read_json(path)), arch.resolution)
    chosen = _chosen(folder, format)
    # model.py is not run: a folder from elsewhere must not bring programs
    run = _alone(load(folder)) if chosen == "pytorch" else FORMATS[chosen].load(folder, torch.get_num_threads())
    probabilities = task_of(config.task).probabilities
    if config.onnx is None or not FORMATS[chosen].from_onnx:
        return chosen, config, lambda images: probabilities(run(images))
    through, done = in_batches(run, config.onnx.batch), config.onnx.softmax
    return chosen, config, lambda images: through(images) if done else probabilities(through(images))


def _of_bundle(folder: Path, format: str | None, network: str | None) -> tuple[str, ExportConfig, Run]:
    bundle = load_bundle(folder)
    if format not in (None, "pytorch"):
        raise VerificationError(f"--format {format}: bundles run in PyTorch: leave it out")
    if network not in bundle.members:
        given = "a bundle of several networks" if network is None else f"no network {network!r} in this bundle"
        raise DataError(f"{folder}: {given}: give --network with one of {', '.join(bundle.names)}")
    run = _alone(bundle.network(network))
    member, probabilities = bundle.members[network], task_of(bundle.config.task).probabilities
    config = replace(_at(bundle.config, member.arch.resolution), thresholds=member.thresholds)
    return "pytorch", config, lambda images: probabilities(run(images))


def _chosen(folder: Path, format: str | None) -> str:
    """The name of the format to run."""
    there = [name for name, known in FORMATS.items() if all((folder / file).is_file() for file in known.files)]
    if format is not None:
        if format not in FORMATS:
            raise VerificationError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
        if format not in there:
            raise VerificationError(
                f"--format {format}: {folder} has no {FORMATS[format].files[0]}: choose from {', '.join(there)}"
            )
        FORMATS[format].require()
        return format
    lacks: MissingExtraError | None = None
    programs = [name for name in there if name in ASKED_FOR]
    there = [name for name in there if name not in ASKED_FOR]
    if programs and not there:
        what = f"{folder / FORMATS[programs[0]].files[0]} is a program, which may be from elsewhere"
        raise FileError(f"{what}: to run it, give --format {programs[0]}")
    for name in sorted(there, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        try:
            FORMATS[name].require()
            return name
        except MissingExtraError as error:
            lacks = lacks or error
    raise lacks or FileError(f"{folder}: it has none of an export's files, such as weights.safetensors: export it again")


def _at(config: ExportConfig, resolution: Resolution) -> ExportConfig:
    """The config with the resolution, which older exports do not record there."""
    steps: InputSteps = replace(config.preprocessing, resolution=resolution)
    return replace(config, preprocessing=steps)


def _alone(network: Any) -> Run:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(images)
        return logits

    return run
