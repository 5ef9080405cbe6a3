"""Arguments of the commands that choose networks of a run, export them and use them."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from ..arch import Arch
from ..common.onnx_options import OPSET, OnnxOptions
from ..errors import ModelError
from .declare import Flag, argument, group, option
from .shared import FINALISTS, LIMITS, Budget, budgets_of, device, finalists, known_devices, moved, names_in, run_folder, seed
from .values import duration_s

CAUTION = 1.0


def _each(texts: list[str] | None) -> list[str]:
    """Names from repeated options, each comma-separated."""
    return [name.strip() for text in texts or [] for name in text.split(",") if name.strip()]


@dataclass(frozen=True)
class SearchOptions:
    """Arguments of `ofa search`.

    Args:
        folder: the run directory.
        budget: limits of the network. The command line takes several latencies, each searched separately.
        device: a profiled device; without a latency limit, profiling is not needed.
        finalists: number of networks to measure, those with the best predictions.
        caution: search on prediction - caution·std, because the highest of very many predictions is usually too high. 0
            maximizes the prediction itself, and bounds the distance from the optimum where that is possible.
        seed: for the search.
        data: where the images are now, if they have moved; None for the place stored in the run.
    """

    folder: Path = run_folder()
    budget: Budget | Sequence[Budget] = group(Budget(), lambda **given: budgets_of(**given) or [Budget()], LIMITS, positional=True)
    device: str = device(default="cpu")
    finalists: int = finalists()
    caution: float = option("Search on prediction - X·std; 0 can prove the optimum.", "X", CAUTION, least=0)
    data: str | None = moved()
    seed: int = seed()

    def __post_init__(self) -> None:
        known_devices(self.device)


def _onnx(opset: int | None, batch: int | None, softmax: bool) -> OnnxOptions | None:
    """The given options; None if there are none."""
    if opset is None and batch is None and not softmax:
        return None
    return OnnxOptions(OPSET if opset is None else opset, batch, softmax)


_ONNX = {
    "opset": Flag("ONNX operator set, 10 to 28, e.g. 17; default 13.", "N", kind=int),
    "batch": Flag("ONNX and OpenVINO: images per call, e.g. 1.", "N", kind=int),
    "softmax": Flag("End these files with a softmax, for probabilities.", kind=bool, default=False),
}


@dataclass(frozen=True)
class SpecialiseOptions:
    """Arguments of `ofa specialise`.

    Args:
        folder: the run directory.
        budgets: limits of each network.
        device: one or several profiled devices; without latency limits, profiling is not needed.
        export: formats, see `onceforall.export.FORMATS`.
        out: where the folders of the networks go; None for specialised/ in the run directory.
        finalists: number of networks to measure before one is chosen, those with the best predictions.
        seed: for the search.
        max_drop: points of held-out top-1 that an int8 file may lose; files that lose more are left out.
        arch: export this network instead of searching; it is measured, and must meet the latency limit.
        name: folder name of a single network, instead of one made from device and budget.
        metric: for choosing networks, if other than the run's: sub-networks are then measured and a predictor is fitted for it.
        license: license of the weights, for the card, by its name on Hugging Face, such as "apache-2.0".
        push_to_hub: repository, USER/NAME, to upload the network to once all are verified; each of several networks gets its own
            repository, with the name of its folder appended.
        finetune: epochs to train each network separately before it is exported; see `Finetuning`.
        data: where the images are now, if they have moved; None for the place stored in the run.
        onnx: options of the formats that are made from an ONNX graph; None for the default.
        readers: other programs in which to run the ONNX files, see `onceforall.export.READERS`; None for all that are installed.
    """

    folder: Path = run_folder()
    budgets: Sequence[Budget] = group(MISSING, budgets_of, LIMITS, positional=True)
    device: str | Sequence[str] = option(
        "As in ofa profile; repeat for several.", "DEVICE", "cpu", kind=list[str], complete="devices"
    )
    export: Sequence[str] = option(
        "Such as onnx,onnx-int8: docs/export.md.", "FORMATS", ("onnx",), read=names_in, complete="format,"
    )
    max_drop: float = option("Maximum top-1 loss of int8 files.", "POINTS", 2.0, least=0, most=100)
    onnx: OnnxOptions | None = group(None, _onnx, _ONNX)
    readers: Sequence[str] | None = option(
        "Check ONNX files in e.g. opencv,ncnn; or none.", "NAMES", read=lambda text: [n for n in names_in(text) if n != "none"]
    )
    finetune: int = option("Fine-tune each first, e.g. 5.", "EPOCHS", 0, least=0)
    out: Path | None = option("Instead of RUN/specialised, e.g. networks/.", "FOLDER")
    push_to_hub: str | None = option("Upload verified networks to the Hub, e.g. you/flowers.", "REPO")
    license: str | None = option("License of the weights, for the card, e.g. mit.", "NAME")
    finalists: int = finalists()
    data: str | None = moved()
    seed: int = seed()
    arch: Arch | None = field(default=None, kw_only=True)  # these three in Python only
    name: str | None = field(default=None, kw_only=True)
    metric: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        known_devices(*self.devices)

    @property
    def devices(self) -> Sequence[str]:
        """All devices."""
        return [self.device] if isinstance(self.device, str) else self.device


@dataclass(frozen=True)
class BundleOptions:
    """Arguments of `ofa bundle`.

    Args:
        folder: the run directory.
        budgets: search the best network for each, as `specialise` does; this needs a profile and a predictor.
        archs: more networks: names in specialised/ of the run, files, folders, "largest", "smallest" or "random:3".
        device: for the budgets. Bundles run in PyTorch, so with "pytorch" the limits apply to the bundle itself.
        out: None for bundle/ in the run directory.
        finalists: number of networks to measure before one is chosen, those with the best predictions.
        seed: for the search and random networks.
        data: where the images are now, if they have moved; None for the place stored in the run.
    """

    folder: Path = run_folder()
    budgets: Sequence[Budget] = group((), budgets_of, LIMITS, positional=True)
    archs: Sequence[str] = option(
        "Add these: names or files, e.g. largest,5ms.", "NETS", (), kind=list[str], read=_each, name="--arch"
    )
    device: str = device(default="pytorch")
    out: Path | None = option("Instead of RUN/bundle, e.g. pair/.", "FOLDER")
    finalists: int = finalists()
    data: str | None = moved()
    seed: int = seed()

    def __post_init__(self) -> None:
        known_devices(self.device)


@dataclass(frozen=True)
class ClassifyOptions:
    """Arguments of `ofa classify`.

    Args:
        export: a folder made by `specialise` or `bundle`.
        photos: image files, or folders: all images in them and their subfolders are used, as in training.
        format: format of the file to run, a name in `onceforall.export.FORMATS`; None for ONNX if the folder has it and ONNX
            Runtime is installed, else PyTorch, else another one in the folder, but never "torch-export".
        network: for a bundle, the name of one of its networks.
        top: number of classes for each photograph; None for 5, or all if there are fewer.
    """

    export: Path = argument("Folder from ofa specialise or ofa bundle.", "EXPORT")
    photos: Sequence[Path] = argument("Image files, or folders of them.", "PHOTO", kind=list[Path])
    format: str | None = option("Format of the file to run, e.g. pytorch; default onnx.", "NAME", complete="format")
    network: str | None = option("For a bundle: one of its networks, e.g. 5ms.", "NAME")
    top: int | None = option("Classes per photograph, e.g. 3; default 5.", "N", least=1)


def _each_alone(**given: Any) -> tuple[Budget, ...]:
    """Make each limit a separate budget."""
    return tuple(budget for name, limit in given.items() for budget in budgets_of(**{name: limit}))


@dataclass(frozen=True)
class CompareOptions:
    """Arguments of `ofa compare`.

    Args:
        folder: the run directory, with a predictor and a profile of the device; results go to its compare/.
        networks: see `onceforall.pipeline.comparison.fixed.asked_for`; none for the last comparison again.
        epochs: to train each network for; with neither this nor `budget_s`, as many multiply-accumulates as the run took.
        budget_s: seconds to train each network for instead.
        rate: peak learning rate; None for the rate of the run's phase of the largest network.
        budgets: additional budgets.
        device: a profiled device.
        finalists: number of networks predicted best to measure for each budget.
        seed: for the searches.
        data: where the images are now, if they have moved; None for the place stored in the run.
    """

    folder: Path = run_folder()
    networks: Sequence[str] = group(
        (),
        lambda networks: _each(networks),
        {"networks": Flag("Such as timm:resnet18@96,net.py:Net (runs its code).", "NETS", list[str], name="--with")},
        positional=True,
    )
    epochs: float | None = option("Epochs for each, e.g. 30; default: the run's MACs.", "N")
    budget_s: float | None = option("Training time for each instead, e.g. 10m.", "TIME", name="--budget", read=duration_s)
    rate: float | None = option("Peak learning rate, e.g. 0.01; default: the run's.", "X")
    budgets: Sequence[Budget] = group((), _each_alone, {name: LIMITS[name] for name in ("latency", "macs", "params")})
    device: str = option("A profiled device.", "DEVICE", "cpu")
    finalists: int = finalists()
    data: str | None = moved()
    seed: int = seed()

    def __post_init__(self) -> None:
        known_devices(self.device)
        given = self.epochs, self.budget_s, self.rate, *self.budgets, self.device != "cpu", self.finalists != FINALISTS, self.seed
        if not self.networks and any(given):
            raise ModelError("--with names no network: give one, e.g. torchvision:mobilenet_v3_small.DEFAULT, or the run alone")
