"""Arguments of the commands that create a run directory, and of `ofa elastic`."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..data.reading import Reading, require_cache
from ..errors import TrainingError
from ..tasks.task import require_metric
from .declare import Flag, argument, group, option
from .shared import reading, seed, torch_device
from .values import amount_of_text, duration_s, numbers, recipe_values, value_range, with_resolutions

_out = partial(option, "Run directory to create, e.g. run.", "RUN", MISSING)
_weights = partial(option, "State dict of NET, e.g. net.pth; or random.", "FILE")
_holdout = partial(option, "Fraction of training images held out.", "X", 0.1)
_limit = partial(option, "Use at most N images of each split, e.g. 1000.", "N", least=1)
_cache = partial(option, "Cache, e.g. none: decode on the fly; docs/data.md.", "HOW", complete="cache")
_cache_gb = partial(option, "GB for decoded images, e.g. 20; default 8.", "N", least=0.001)
_max_pixels = partial(
    option, "Leave out larger images, e.g. 500M; see docs/data.md.", "N", read=lambda text: int(amount_of_text(text))
)
_channels = partial(option, "Image channels, e.g. 1 (gray); 3, or 4 (with alpha).", "N")
_mean = partial(option, "Channel means, for values 0 to 1, e.g. 0.5,0.4,0.3.", "NUMBERS", read=numbers)
_std = partial(option, "Channel std, e.g. 0.25; default: the weights' own.", "NUMBERS", read=numbers)
_range = partial(option, "16-bit values for black and white, e.g. 0,4095.", "LOW,HIGH", read=value_range)


def _space(help: str) -> Any:
    flags = {"resolutions": Flag("Image sizes, e.g. 160,192,224; or HEIGHTxWIDTH.", "PIXELS"), "space": Flag(help, "ARGS")}
    return group(None, with_resolutions, flags)


def _check_images(options: "TrainOptions | ImportOptions") -> None:
    """Raise a `DataError` if images cannot be read, cached or normalized with these options."""
    from ..data.originals import Read  # loads Pillow, which --help does not need
    from ..data.preparation import channel_values

    require_cache(options.cache)
    Read(options.max_pixels, 3 if options.channels is None else options.channels, options.range)
    for name, values in (("mean", options.mean), ("std", options.std)):
        channel_values(name, values, options.channels)


@dataclass(frozen=True)
class TrainOptions:
    """Arguments of `ofa train`.

    Args:
        data: a folder of images, a table, an archive, shards, Parquet files, "hf:NAME", "torchvision:NAME:FOLDER" or "digits"; see
            `onceforall.data.open_source`. To resume with images that have moved, where they are now.
        out: the run directory to make, or to continue if `resume`.
        from_run: a finished or imported run to start from: its weights, space and preprocessing. The classifier is new, unless the
            class names are the same. Or a network, "timm:NAME", "torchvision:NAME", "hf:USER/REPO", "ofa:NAME" or
            "FILE.py:FUNCTION", see `onceforall.models.bring`: `onceforall.elastic` makes the space, and the network's code is not
            needed afterwards.
        weights: weights of such a network: a file with its state dict, "random", or None for its own.
        preset: name in `PRESETS`; None takes the one of `from_run`, "digits" for the digits, "pretrained" for a network with
            trained weights, or "imagenette-60m".
        space: arguments of the space that replace the preset's, such as {"width": 1.0}; see `Preset.space`. For your own network:
            its resolutions, widths, heads, depths, kernels and stage_widths.
        scheme: how sub-networks are trained, a name in `onceforall.train.SCHEMES`; None for the preset's.
        teacher: another network to distill from, in place of the largest one: "torchvision:MODEL:FILE" or "timm:MODEL:FILE", with
            weights for the same classes, see `load_teacher`.
        epochs: total for all phases; the schedule is scaled to it. 0, with trained weights: only fit a classifier.
        budget_s: training time in seconds, instead of epochs; a few steps are timed first.
        batch_size: images per step, None for the preset's.
        rate: peak learning rate, None for the preset's.
        recipe: values that replace the preset's, keyed by the fields of `onceforall.train.Recipe` and
            `onceforall.data.Augment`, such as {"mixup": 0.2, "ema": 0.99}.
        seed: for the weights and all random draws.
        holdout: share of the training images that is held out.
        limit: maximum number of images in each split.
        max_pixels: larger images are left out; None for 300 megapixels for JPEG and 89 for other formats.
        channels: channels of the images: 3, 1 (luminance) or 4 (with alpha); None for those of the starting network, else 3. A
            first convolution for 3 channels is adapted to other numbers: summed over its channels, or repeated and rescaled.
        mean: mean of pixel values from 0 to 1, one per channel or one for all; None for the one the weights were trained with.
        std: standard deviation, likewise.
        range: the values in gray images of more than 8 bits that become black and white; None for 0 and 65,535.
        reading: which labels, classes and groups; see `onceforall.data.Reading`.
        metric: used by validation, the predictor and searches, a name in `onceforall.scores.METRICS`; None for balanced accuracy
            if a class has more than three times as many training images as another, else top-1; for several labels per image,
            mean average precision.
        resume: continue from the last checkpoint in `out`, with the arguments of the first start; if there is none, start.
        sync_norm: with several processes, compute batch norm's statistics over all of them.
        same_networks: with several processes, all train the same sub-networks, as with `sync_norm`; else each draws its own.
        device: training device, "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N"; see `choose_compute`.
        precision: "float32" or "bfloat16"; None to choose by device.
        cache: how training images are kept: "decoded" once into a file; "none": decoded on the fly by separate processes;
            "auto" or None: "decoded" if that takes at most `cache_gb` and half of the free disk. A run keeps its setting.
        cache_gb: limit on the decoded images on disk, and, memory-mapped, in memory; None for 8 (with "none": 0, so that pixels
            for evaluation are not kept either), or the run's setting.

    Raises:
        TrainingError: an unknown preset, scheme or recipe field, or a number out of range.
    """

    data: str = argument("Folder, table, zip/tar, hf:NAME: docs/data.md.", "DATA")
    out: Path = _out()
    from_run: str | Path | None = option(
        "Start from RUN, FILE.py:FUNCTION, e.g. timm:resnet50.", "NET", kind=str, name="--from", complete="run"
    )
    weights: str | Path | None = _weights(kind=Path)
    preset: str | None = option("Preset, e.g. imagenette-60m; see docs/training.md.", "NAME", complete="preset")
    space: Mapping[str, Any] | None = _space("Change the preset's space, e.g. width=0.5,depths=2/3.")
    scheme: str | None = option("Training scheme, e.g. sandwich; see docs/training.md.", "NAME", complete="scheme")
    teacher: str | None = option("Network to distill from, e.g. timm:resnet50:net.pth.", "NET")
    epochs: float | None = option("Total epochs, e.g. 30; 0: only a classifier.", "N", least=0)
    budget_s: float | None = option("Total training time, e.g. 30m.", "TIME", name="--budget", read=duration_s)
    batch_size: int | None = option("Images per step, e.g. 64.", "N", least=1)
    rate: float | None = option("Peak learning rate, e.g. 0.01.", "X")
    recipe: Mapping[str, Any] | None = option(
        "Recipe, e.g. mixup=0.2,ema=0.99; see docs/training.md.", "VALUES", read=recipe_values
    )
    holdout: float = _holdout()
    limit: int | None = _limit()
    max_pixels: int | None = _max_pixels()
    channels: int | None = _channels()
    mean: tuple[float, ...] | None = _mean()
    std: tuple[float, ...] | None = _std()
    range: tuple[float, float] | None = _range()
    reading: Reading = reading()
    metric: str | None = option("Metric, e.g. balanced; top1, macro_f1; labels: map.", "NAME", complete="metric")
    seed: int = seed()
    resume: bool = option("Resume from the last checkpoint in --out.", default=False)
    sync_norm: bool = option("Under torchrun: batch norm over all processes.", default=False)
    same_networks: bool = option("Under torchrun: all train the same sub-networks.", default=False)
    device: str = torch_device()
    precision: str | None = option("float32 or e.g. bfloat16; default: by device.", "TYPE", complete="precision")
    cache: str | None = _cache()
    cache_gb: float | None = _cache_gb()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise TrainingError(f"the seed is {self.seed}: it must be from 0 to 2^63 - 1")
        for name, value in (("epochs", self.epochs), ("seconds to train", self.budget_s)):
            if value is not None and not 0 < value < 1e9 and not (name == "epochs" and value == 0):
                raise TrainingError(f"{value:g} {name}: it must be a number above 0 and below a billion")
        if self.epochs is not None and self.budget_s is not None:
            raise TrainingError("epochs and a time budget both set how long to train: give only one of them")
        require_metric(self.metric, self.reading.task)
        _check_images(self)
        self.chosen("imagenette-60m")  # any preset will do

    @property
    def caches(self) -> bool:
        """Whether the cache is configured explicitly."""
        return self.cache is not None or self.cache_gb is not None

    def chosen(self, name: str) -> Any:
        """The requested preset, or else the one called `name`, with the given parts replaced."""
        from .presets import choose_preset  # loads more than --help needs

        return choose_preset(name if self.preset is None else self.preset, self.scheme, self.batch_size, self.rate, self.recipe)

    def stored(self) -> dict[str, Any]:
        """The arguments that run.json stores, as JSON values: all that affect the weights."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_STORED}


NOT_STORED = ("data", "out", "resume", "device", "cache", "cache_gb", "reading")  # run.json describes the data separately


@dataclass(frozen=True)
class ImportOptions:
    """Arguments of `ofa import`.

    Args:
        network: a file of the Once-for-All authors, from which only tensors are ever unpickled; or your own network, see
            `onceforall.models.bring`.
        out: the run directory to make.
        name: name of the authors' network, see `onceforall.published.NAMES`.
        weights: for your own network: a file with its state dict.
        space: choices for your own network: resolutions, widths, heads, depths, kernels and stage_widths.
        data: images with as many classes as the weights, in the same order; see `onceforall.data.open_data`. Without them only
            `profile`, `report` and `export_original` work.
        predictor: the authors' accuracy predictor for these weights, so that `search` works without `predict`.
        holdout: share of the training images that is held out.
        limit: maximum number of images in each split.
        max_pixels: larger images are left out; None for 300 megapixels for JPEG and 89 for other formats.
        channels: as in `ofa train`, like `mean`, `std` and `range`.
        mean: means of the channels.
        std: standard deviations of the channels.
        range: for images of more than 8 bits.
        reading: which labels, classes and groups; see `onceforall.data.Reading`.
        metric: as in `ofa train`.
        cache: as in `ofa train`; here "none" keeps training images off the disk; fine-tuning decodes them on the fly.
        cache_gb: limit on the decoded images on disk; None for 8, with "none" 0.
        seed: for choosing the held-out images.
    """

    network: str | Path = argument("timm:NAME, ofa:NAME, FILE.py:FUNCTION, or the authors' file.", "NET", kind=str)
    out: Path = _out()
    name: str | None = option("Name of the authors' network, such as ofa_resnet50.", "NAME", complete="original")
    weights: str | Path | None = _weights(kind=Path)
    space: Mapping[str, Any] | None = _space("Space, as in ofa elastic, e.g. widths=0.5/1.")
    data: str | None = option("Images, as in ofa train, e.g. photos/; to evaluate.", "DATA")
    predictor: Path | None = option("The authors' accuracy predictor, e.g. acc_net.pth.", "FILE")
    holdout: float = _holdout()
    limit: int | None = _limit()
    max_pixels: int | None = _max_pixels()
    channels: int | None = _channels()
    mean: tuple[float, ...] | None = _mean()
    std: tuple[float, ...] | None = _std()
    range: tuple[float, float] | None = _range()
    reading: Reading = reading()
    metric: str | None = option("Metric, e.g. balanced; top1, macro_f1; labels: map.", "NAME", complete="metric")
    cache: str | None = _cache()
    cache_gb: float | None = _cache_gb()
    seed: int = seed()

    def __post_init__(self) -> None:
        require_metric(self.metric)
        _check_images(self)


@dataclass(frozen=True)
class ElasticOptions:
    """Arguments of `ofa elastic`.

    Args:
        source: see `onceforall.models.bring`.
        weights: a file with its state dict; without it, a library's network gets random weights, which suffice for reading it.
        space: its choices: resolutions, widths, heads, depths, kernels and stage_widths; by default at its original size.
        channels: channels of the images, as in `ofa train`.
        seed: for random weights.
    """

    source: str = argument("timm:NAME, torchvision:NAME, hf:USER/REPO, FILE.py:FUNCTION.", "NET")
    weights: str | Path | None = _weights(kind=Path)
    space: Mapping[str, Any] | None = _space(
        "Choices: resolutions, widths, heads, depths, kernels, stage_widths; e.g. widths=0.5/0.75/1,depths=1/2/3."
    )
    channels: int | None = _channels()
    seed: int = seed()

    def __post_init__(self) -> None:
        from ..data.originals import Read

        Read(channels=3 if self.channels is None else self.channels)
