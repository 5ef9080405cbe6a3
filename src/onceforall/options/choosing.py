"""Arguments of the commands that choose networks of a run, take them home and show them."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arch import Arch
from .declare import Flag, argument, group, option
from .shared import LIMITS, Budget, budgets_of, device, finalists, known_devices, moved, names_in, run_folder, seed
from .values import duration_s

if TYPE_CHECKING:
    from ..export import OnnxOptions

CAUTION = 1.0


def _each(texts: list[str] | None) -> list[str]:
    """Names of several options, each with commas."""
    return [name.strip() for text in texts or [] for name in text.split(",") if name.strip()]


@dataclass(frozen=True)
class SearchOptions:
    """Arguments of `ofa search`.

    Args:
        folder: the run directory.
        budget: what the network may cost. On a command line there may be several latencies, each with a search of its own.
        device: that was profiled; without a latency limit it need not be.
        finalists: best predicted networks that are measured.
        caution: standard deviations of the prediction that are taken off it: the best of very many predictions is one that is too
            high. 0 maximises the prediction itself, and says how far from the optimum the result can be where that is known.
        seed: of the search.
        data: where the images are now, if they have moved since; None for where the run says.
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


def _onnx(opset: int | None, batch: int | None, softmax: bool) -> Any:
    """What was asked for; None if nothing was."""
    if opset is None and batch is None and not softmax:
        return None
    from ..common.onnx_options import OPSET
    from ..export import OnnxOptions

    return OnnxOptions(OPSET if opset is None else opset, batch, softmax)


_ONNX = {
    "opset": Flag("Of ONNX files: operators 10 to 28, e.g. 17; 13.", "N", kind=int),
    "batch": Flag("Of ONNX and OpenVINO files: images of a call, e.g. 1.", "N", kind=int),
    "softmax": Flag("End these files with a softmax, for probabilities.", kind=bool, default=False),
}


@dataclass(frozen=True)
class SpecialiseOptions:
    """Arguments of `ofa specialise`.

    Args:
        folder: the run directory.
        budgets: what each network may cost.
        device: that was profiled, or several; without latency limits they need not be.
        export: formats, see `onceforall.export.FORMATS`.
        out: where the folders of the networks go; None for specialised/ in the run directory.
        finalists: best predicted networks that are measured before one is chosen.
        seed: of the search.
        max_drop: most points of held-out top-1 that an int8 file may lose; one that loses more is left out.
        arch: take this network instead of searching one; it is measured, and must keep the latency.
        name: of the folder of the one network, instead of one made of device and budget.
        metric: that networks are chosen by, if not the run's: sub-networks are then measured and a predictor is fitted for it.
        license: of the weights, for the card, as Hugging Face names it, such as "apache-2.0".
        push_to_hub: repository, USER/NAME, that gets the network when all are proven; of several networks each gets one of its own,
            with the name of its folder added.
        finetune: epochs that each network is trained on its own before it is exported; see `Finetuning`.
        data: where the images are now, if they have moved since; None for where the run says.
        onnx: options of the formats that are made from an ONNX graph; None for the default.
        readers: other programs to run the ONNX files in, see `onceforall.export.READERS`; None for all that are installed.
    """

    folder: Path = run_folder()
    budgets: Sequence[Budget] = group(MISSING, budgets_of, LIMITS, positional=True)
    device: str | Sequence[str] = option(
        "As in ofa profile; several: give it again.", "DEVICE", "cpu", kind=list[str], complete="devices"
    )
    export: Sequence[str] = option(
        "Such as onnx,onnx-int8: docs/export.md.", "FORMATS", ("onnx",), read=names_in, complete="format,"
    )
    max_drop: float = option("Most top-1 that int8 may lose.", "POINTS", 2.0, least=0, most=100)
    onnx: "OnnxOptions | None" = group(None, _onnx, _ONNX)
    readers: Sequence[str] | None = option(
        "Run ONNX files there too, e.g. opencv,ncnn; none.", "NAMES", read=lambda text: [n for n in names_in(text) if n != "none"]
    )
    finetune: int = option("Train each alone first, e.g. 5.", "EPOCHS", 0, least=0)
    out: Path | None = option("Instead of RUN/specialised, e.g. networks/.", "FOLDER")
    push_to_hub: str | None = option("Upload what is proven to the Hub, e.g. you/flowers.", "REPO")
    license: str | None = option("Of the weights, for the card, e.g. apache-2.0.", "NAME")
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
        """All of them."""
        return [self.device] if isinstance(self.device, str) else self.device


@dataclass(frozen=True)
class BundleOptions:
    """Arguments of `ofa bundle`.

    Args:
        folder: the run directory.
        budgets: for each the best network is searched, as `specialise` does; this needs a profile and a predictor.
        archs: networks besides those: names in specialised/ of the run, files, folders, "largest", "smallest" or "random:3".
        device: that the budgets are for. Bundles run in PyTorch, so with "pytorch" the limits are those of the bundle itself.
        out: None for bundle/ in the run directory.
        finalists: best predicted networks that are measured before one is chosen.
        seed: of the search and of random networks.
        data: where the images are now, if they have moved since; None for where the run says.
    """

    folder: Path = run_folder()
    budgets: Sequence[Budget] = group((), budgets_of, LIMITS, positional=True)
    archs: Sequence[str] = option(
        "Also or instead: names or files, e.g. largest,5ms.", "NETS", (), kind=list[str], read=_each, name="--arch"
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
        export: a folder that `specialise` made, or one of `bundle`.
        photos: image files, and folders, of which all images are taken as in training, those in folders below too.
        format: of the file that is to run, a name in `onceforall.export.FORMATS`; None for ONNX where the folder has it and ONNX
            Runtime is installed, else PyTorch, else another one that is there, but never "torch-export".
        network: of a bundle, the name of one of its networks.
        top: number of classes for each photograph; None for 5, or all if there are fewer.
    """

    export: Path = argument("Folder that ofa specialise or ofa bundle made.", "EXPORT")
    photos: Sequence[Path] = argument("Image files, or folders of them.", "PHOTO", kind=list[Path])
    format: str | None = option("Of the file to run, e.g. pytorch; onnx by default.", "NAME", complete="format")
    network: str | None = option("Of a bundle: one of its networks, e.g. 5ms.", "NAME")
    top: int | None = option("Classes for each photograph, e.g. 3; 5 by default.", "N", least=1)


def _each_alone(**given: Any) -> tuple[Budget, ...]:
    """Limits of which each is a budget of its own."""
    return tuple(budget for name, limit in given.items() for budget in budgets_of(**{name: limit}))


@dataclass(frozen=True)
class CompareOptions:
    """Arguments of `ofa compare`.

    Args:
        folder: the run directory, with a predictor and a profile of the device; compare/ in it gets what is found.
        networks: see `onceforall.pipeline.comparison.fixed.asked_for`.
        epochs: that each is trained for; with neither this nor `budget_s` as many as cost the multiply-accumulates of the run.
        budget_s: seconds that each is trained for instead.
        rate: peak learning rate; None for that of the run's phase of the largest network.
        budgets: more of them.
        device: that was profiled.
        finalists: best predicted networks that are measured for each budget.
        seed: of the searches.
        data: where the images are now, if they have moved since; None for where the run says.
    """

    folder: Path = run_folder()
    networks: Sequence[str] = group(
        MISSING,
        lambda networks: _each(networks),
        {
            "networks": Flag(
                "Such as timm:resnet18@96,net.py:Net (runs its code).", "NETS", list[str], name="--with", default=MISSING
            )
        },
        positional=True,
    )
    epochs: float | None = option("For each, e.g. 30; default: the run's whole work.", "N")
    budget_s: float | None = option("For training each, e.g. 10m, instead.", "TIME", name="--budget", read=duration_s)
    rate: float | None = option("Peak learning rate, e.g. 0.01; default: the run's.", "X")
    budgets: Sequence[Budget] = group((), _each_alone, {name: LIMITS[name] for name in ("latency", "macs", "params")})
    device: str = option("That was profiled.", "DEVICE", "cpu")
    finalists: int = finalists()
    data: str | None = moved()
    seed: int = seed()

    def __post_init__(self) -> None:
        known_devices(self.device)
