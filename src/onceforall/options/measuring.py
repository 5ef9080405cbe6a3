"""Arguments of the commands that measure networks, devices and accuracies, and predict them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..arch import Arch
from ..common.advice import ofa
from ..common.files import read_text
from ..data.reading import AS_IT_IS, Reading
from ..errors import ArchError, DataError, DeviceError, ValueTextError
from ..space import Space
from ..spaces import FAMILIES, space
from .declare import Flag, argument, group, option
from .shared import DEVICE, device, known_devices, moved, names_in, on_host, ray, reading, run_folder, seed, torch_device
from .values import space_arguments

SUBNETS = 300  # to measure by default
PARTS = ("train", "test", "held-out", "all")  # of labeled images
HOST = Flag("Another machine, such as ssh://pi@board.", "URL")


@dataclass(frozen=True)
class EvaluateOptions:
    """Arguments of `ofa evaluate`.

    Args:
        folder: the run directory, or an exported network.
        images: for an exported network, the labeled images; see `onceforall.data.open_source`.
        arch: "largest", "smallest", "random:16" for 16 random ones, the name of a network in specialised/ of the run, or a file
            that `Arch.to_json` or `ofa specialise` wrote. The weights are always the supernet's.
        against: another network of the same kind, to compare on the same images.
        split: "held-out" (None), or "test" for a final report, which is recorded. For images of an exported network "train",
            "test", "held-out" or "all"; None for the test images if there are any, else all.
        seed: for random architectures.
        device: device to run them on, see `choose_compute`.
        data: where the images are now, if they have moved; None for the place stored in the run.
        format: for an exported network, the file to run; see `classify`.
        network: for a bundle, the name of one of its networks.
        reading: for images of an exported network: which labels and classes.
    """

    folder: Path = argument("Run directory, or an exported network.", "RUN", complete="run")
    images: str | None = argument("For an exported network: labeled images.", "DATA", default=None)
    arch: str = option("largest, smallest, random:N, a name, a file.", "ARCH", "largest", complete="arch")
    against: str | None = option("Compare with it on the same images, e.g. smallest.", "ARCH", complete="arch")
    split: str | None = option("held-out, or e.g. test for a final report.", "SPLIT", complete="split")
    device: str = torch_device()
    data: str | None = moved()
    format: str | None = option("For an export: the file to run, e.g. onnx.", "NAME", complete="format")
    network: str | None = option("For a bundle: one of its networks, e.g. 5ms.", "NAME")
    reading: Reading = reading()
    seed: int = seed()

    def __post_init__(self) -> None:
        if self.is_export:
            if self.images is None:
                what = f"{self.folder} is an exported network, which has no images of its own"
                raise DataError(f"{what}: give labeled images: {ofa('evaluate', self.folder, 'DATA')}")
            if self.arch != "largest" or self.data is not None or self.device != "auto" or self.seed:
                what = f"--arch, --data, --device and --seed apply to runs only, and {self.folder} is an exported network"
                raise DataError(f"{what}: leave them out")
            if self.split not in (None, *PARTS):
                raise DataError(f"--split {self.split}: use {', '.join(PARTS)}")
            return
        if self.images is not None:
            what = f"{self.folder} is not an exported network, and a run has its own images"
            raise DataError(f"{what}: leave {self.images} out, or give it as --data if they have moved")
        if self.reading != AS_IT_IS or self.format is not None or self.network is not None:
            given = "--label, --classes, --group, --few, --task, --format and --network"
            raise DataError(f"{given} apply to exported networks only, and {self.folder} is not one: leave them out")
        if self.split not in (None, "held-out", "test"):
            raise DataError(f"--split {self.split}: use held-out or test")

    @property
    def is_export(self) -> bool:
        """Whether the folder holds an exported network or a bundle of them."""
        return any((Path(self.folder) / name).is_file() for name in ("config.json", "bundle.json"))


def _run_or_space(text: str) -> Path | Space:
    """Read a path, or a space given as a family's name, alone or with arguments after a colon."""
    family, colon, _ = text.partition(":")
    if Path(text).exists() or not (colon or family in FAMILIES):
        return Path(text)
    return space(**space_arguments(text if colon else f"{text}:"))


@dataclass(frozen=True)
class ProfileOptions:
    """Arguments of `ofa profile`.

    Args:
        source: the run directory, or a space, also as text: "mobilenet_v3:width=1.0".
        device: such as "cpu" (ONNX Runtime, one thread), "pytorch:threads=2", or "onnxruntime@ssh://pi@board" for another machine.
        out: folder for the measurements and table.json; None for latency/DEVICE/ in the run directory. An interrupted profile
            resumes there.
        classes: number of classes of a space's networks, 1000 if None; a run has its own.
        quick: measure less, for a first impression.
        target: mean relative error, such as 0.02, at which half of the networks suffice; see `onceforall.latency.Effort`.
        again: measure everything again instead of using earlier measurements.
        seed: for drawing the networks that the table is fitted to and checked on.
    """

    source: str | Path | Space = argument("Run directory, or a space: mobilenet_v3:width=1.0.", "RUN", kind=str, complete="run")
    device: str = device(default="cpu")
    out: Path | None = option("Instead of RUN/latency/DEVICE, e.g. board/.", "FOLDER")
    classes: int | None = option("For a space: number of classes, e.g. 10; default 1000.", "N", least=1)
    quick: bool = option("Measure less, for a first impression.", default=False)
    target: float = option("Stop at this mean error, e.g. 0.02; 0: measure all.", "X", 0.0)
    again: bool = option("Measure everything again.", default=False)
    seed: int = seed()

    def __post_init__(self) -> None:
        if not 0 <= self.target < 1:
            raise DeviceError(f"--target {self.target:g}: give a share from 0 to 1, such as 0.02 for 2 %")
        known_devices(self.device)
        _ = self.networks

    @property
    def networks(self) -> Path | Space:
        """The run directory, or the space."""
        return _run_or_space(self.source) if isinstance(self.source, str) else self.source


def _shape(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueTextError(f"--shape {text}: give whole numbers separated by x, such as 3x224x224")
    return tuple(map(int, parts))


@dataclass(frozen=True)
class MeasureOptions:
    """Arguments of `ofa measure`.

    Args:
        model: a self-contained ONNX file with one float32 input whose first dimension is the batch.
        device: "cpu" or "onnxruntime:threads=2,batch=4", "openvino", or either "@ssh://user@board".
        shape: shape of one input without the batch; needed if the file leaves it open.
    """

    model: Path = argument("Any ONNX file with one float32 input.", "MODEL")
    device: str = group("cpu", on_host, {"device": DEVICE, "host": HOST})
    shape: tuple[int, ...] | None = option("Shape of one input, if the file leaves it open, e.g. 3x64x64.", "CxHxW", read=_shape)

    def __post_init__(self) -> None:
        known_devices(self.device)


@dataclass(frozen=True)
class PredictOptions:
    """Arguments of `ofa predict`.

    Args:
        folder: the run directory; accuracy/ gets the measured rows as Parquet and the predictor. Existing rows are reused.
        subnets: number to measure. A quarter, drawn independently, checks the predictor. Of the rest, three fifths are drawn as a
            tree; the others, if that leaves enough, are chosen by the predictor fitted so far, see `onceforall.accuracy.suggest`.
        seed: for drawing sub-networks.
        device: device to run them on, see `choose_compute`.
        ray: see `MeasureAccuracyOptions`.
        data: where the images are now, if they have moved; None for the place stored in the run.
        metric: metric to use instead of the run's; the results then go to accuracy-METRIC/.
    """

    folder: Path = run_folder()
    subnets: int = option("Networks to measure; a quarter checks the predictor.", "N", 80)
    ray: str | None = ray()
    device: str = torch_device()
    data: str | None = moved()
    seed: int = seed()
    metric: str | None = field(default=None, kw_only=True)  # in Python only

    def __post_init__(self) -> None:
        if self.subnets < 16:
            raise DataError(f"--subnets {self.subnets}: at least 16 are needed, 12 to fit and 4 to check")


def _archs(path: Path) -> list[Arch]:
    """Read a file with one architecture per line."""
    archs = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            archs += [Arch.from_json(line)] if line.strip() else []
        except ArchError as error:
            raise ValueTextError(f"--archs {path}, line {number}: {error}") from None
    if not archs:
        raise ValueTextError(f"--archs {path}: it has no architecture: give one per line, as Arch.to_json writes it")
    return archs


@dataclass(frozen=True)
class MeasureAccuracyOptions:
    """Arguments of `ofa accuracy measure`.

    Args:
        folder: the run directory; accuracy/ gets the rows as Parquet.
        subnets: number to draw, by `onceforall.accuracy.tree`.
        archs: measure these instead.
        every: measure only at resolutions this many pixels apart, each network at two of them; rows for the resolutions between
            are interpolated and marked as such.
        seed: for drawing sub-networks.
        device: device to run them on, see `choose_compute`.
        ray: address of a Ray cluster for the work, or "local" for one on this machine. Its machines must see the folder and the
            images at the same paths.
        data: where the images are now, if they have moved; None for the place stored in the run.
        metric: metric to use instead of the run's; the results then go to accuracy-METRIC/.
    """

    folder: Path = run_folder()
    subnets: int = option("Networks to measure, drawn to share prefixes.", "N", SUBNETS)
    archs: Sequence[Arch] | None = option("Measure these: JSON lines, e.g. next.jsonl.", "FILE", kind=Path, read=_archs)
    every: int | None = option("Measure every PX pixels, e.g. 32; interpolate between.", "PX", least=1)
    ray: str | None = ray()
    device: str = torch_device()
    data: str | None = moved()
    seed: int = seed()
    metric: str | None = field(default=None, kw_only=True)  # in Python only

    def __post_init__(self) -> None:
        if self.archs is not None and self.subnets != SUBNETS:
            raise DataError("--archs and --subnets exclude each other: leave one out")


@dataclass(frozen=True)
class FitPredictorOptions:
    """Arguments of `ofa accuracy fit`.

    Args:
        folder: the run directory; the predictor in accuracy/ is replaced.
        kinds: kinds of models to try; all by default.
        seed: for drawing the quarter on which the fit is checked, and for the fit.
    """

    folder: Path = run_folder()
    kinds: Sequence[str] | None = option(
        "Kinds to try, e.g. linear,pairwise; default: all.", "KINDS", read=names_in, complete="kind,"
    )
    seed: int = seed()


def _numbers(text: str) -> list[int]:
    parts = names_in(text)
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueTextError(f"--samples {text}: give whole numbers separated by commas, such as 100,300")
    return [int(part) for part in parts]


@dataclass(frozen=True)
class ComparePredictorsOptions:
    """Arguments of `ofa accuracy compare`.

    Args:
        folder: the run directory.
        samples: numbers of sub-networks to fit to, the larger ones only as far as there are so many; by default 100, 300, 1,000,
            3,000 and all.
        seed: for drawing sub-networks, relatives together, and for the fits.
    """

    folder: Path = run_folder()
    samples: Sequence[int] | None = option("Numbers to fit to, e.g. 100,300; default: up to all.", "N,N", read=_numbers)
    seed: int = seed()


@dataclass(frozen=True)
class NextSubnetsOptions:
    """Arguments of `ofa accuracy next`.

    Args:
        folder: the run directory, with a predictor.
        subnets: number of sub-networks.
        seed: the same seed and data give the same sub-networks.
    """

    folder: Path = run_folder()
    subnets: int = option("Number of sub-networks.", "N", 50, least=1)
    seed: int = seed()
