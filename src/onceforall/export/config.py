"""`ExportConfig`: the content of an exported folder's config.json."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from ..arch import Arch
from ..backends.format import Job
from ..common.onnx_options import OnnxOptions
from ..common.readable import plural
from ..errors import FileError, SpaceError, VerificationError
from ..preprocess import INTERPOLATIONS, channels_in_words
from ..resolutions import Resolution, read_resolution
from ..space import Space
from ..spaces import from_json
from ..tasks.task import MULTICLASS, TASKS, task_of

FORMAT = "onceforall.export/2"
BEFORE = "onceforall.export/1"  # without resolution, max_pixels and preprocess.py


@dataclass(frozen=True)
class InputSteps:
    """How a photograph becomes the network's input, as `onceforall.preprocess.prepare` reads it: resize, center crop, normalize.

    Args:
        mean: mean of each channel, on values in [0, 1]; one number for gray images, three for color, four with alpha.
        std: standard deviation of each channel.
        crop_share: share of the resized image's short side that the center crop keeps.
        resize: all steps as text.
        interpolation: how the image is resized.
        range: the values of gray images with more than 8 bits that become black and white; None for 0 and 65,535.
        resolution: the network's, "HEIGHTxWIDTH" if not square; None for a folder of networks with several resolutions.
        max_pixels: larger photographs are refused; None for the limits of `onceforall.preprocess.load`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_share: float
    resize: str
    resolution: Resolution | None = None
    max_pixels: int | None = None
    interpolation: str = "bilinear"
    range: tuple[float, float] | None = None

    @property
    def images(self) -> str:
        """The kind of images that the network takes, as text."""
        return channels_in_words(len(self.mean), self.range)

    def to_json(self) -> dict[str, Any]:
        """JSON values for `onceforall.preprocess.prepare`. A range of None is left out, as in earlier versions."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("range", None)}


@dataclass(frozen=True)
class ExportConfig:
    """Content of config.json.

    Args:
        space: the space, saved as its family and arguments.
        classes: names of the classes, in the order of the logits.
        onnx: None if no file is made from an ONNX graph, and in folders of earlier versions.
        task: a name in `onceforall.tasks.task.TASKS`.
        thresholds: multi-label only: least probability of each label.
    """

    space: Space
    classes: tuple[str, ...]
    preprocessing: InputSteps
    onnx: OnnxOptions | None = None
    task: str = MULTICLASS.name
    thresholds: tuple[float, ...] = ()

    def of(self, arch: Arch, *, from_onnx: bool) -> "ExportConfig":
        """The config for the folder of one network; `from_onnx`: whether it has files made from an ONNX graph."""
        onnx = replace(self.onnx or OnnxOptions(), activation=task_of(self.task).activation) if from_onnx else None
        return replace(self, preprocessing=replace(self.preprocessing, resolution=arch.resolution), onnx=onnx)

    def job(self, arch: Arch, network: nn.Module, calibration: Tensor | None = None) -> Job:
        """The `Job` from which formats write one of the space's networks."""
        steps = self.preprocessing
        images = (
            f"{steps.images}, {steps.resize},\nthen (pixel / 255 - mean) / std with mean {list(steps.mean)}, std {list(steps.std)}"
        )
        facts = {"arch": arch.to_json(), "config": json.dumps(self.to_json(), ensure_ascii=False)}
        plan = self.space.lower(arch, len(self.classes))
        return Job(plan, network, self.onnx or OnnxOptions(), facts, images, calibration)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {
            "format": FORMAT,
            "space": json.loads(self.space.to_json()),
            "num_classes": len(self.classes),
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            **({} if self.onnx is None else {"onnx": _onnx_to_json(self.onnx)}),
            **({"task": self.task, "thresholds": list(self.thresholds)} if task_of(self.task).several else {}),
        }

    @classmethod
    def from_json(cls, data: Any, *, bundled: bool = False) -> "ExportConfig":
        """Read the result of `to_json`; `bundled`: it is for several networks, each with its own thresholds.

        Raises:
            FileError: not a config of this format, or fields contradict each other.
            SpaceError: this version does not have the space.
        """
        if not isinstance(data, dict) or data.get("format") not in (FORMAT, BEFORE):
            raise FileError(f"not the config of an exported network: this version reads formats {BEFORE!r} and {FORMAT!r}")
        keys = {"format", "space", "num_classes", "classes", "preprocessing"}
        if set(data) - {"onnx", "task", "thresholds"} != keys:
            raise FileError(f"the config has the fields {sorted(data)}: expected {sorted(keys)}")
        classes, steps = data["classes"], data["preprocessing"]
        strings = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if not strings or data["num_classes"] != len(classes) or not classes:
            raise FileError(f"the config says num_classes {data['num_classes']!r}: it must be the number of names in classes")
        wanted = [field.name for field in fields(InputSteps) if data["format"] == FORMAT or field.default is MISSING]
        if isinstance(steps, dict) and data["format"] == FORMAT:
            steps = {"interpolation": InputSteps.interpolation, "range": None, **steps}  # older folders have none
        if not isinstance(steps, dict) or set(steps) != set(wanted):
            raise FileError(f"the config's preprocessing must have exactly {', '.join(wanted)}")
        if steps.get("interpolation", InputSteps.interpolation) not in INTERPOLATIONS:
            raise FileError(f"the config's interpolation is {steps['interpolation']!r}: choose from {', '.join(INTERPOLATIONS)}")
        space = from_json(json.dumps(data["space"]))
        if (size := steps.get("resolution")) is not None:
            try:
                read_resolution(size)
            except SpaceError as error:
                raise FileError(f"the config's preprocessing: {error}") from None
        channels = {name: _numbers(steps[name], space.channels, "one per channel") for name in ("mean", "std")}
        limits = None if steps.get("range") is None else _numbers(steps["range"], 2, "the ends of a range")
        preprocessing = InputSteps(**{**steps, **channels, "range": limits})
        onnx = _onnx_from_json(data["onnx"]) if "onnx" in data else None
        task = data.get("task", MULTICLASS.name)
        thresholds = _thresholds(task, data.get("thresholds", []), 0 if bundled else len(classes))
        return cls(space, tuple(classes), preprocessing, onnx, task, thresholds)


def _thresholds(task: Any, thresholds: Any, classes: int) -> tuple[float, ...]:
    """For multi-label networks a threshold for each label, else ()."""
    if task not in TASKS:
        raise FileError(f"the config's task is {task!r}: choose from {', '.join(TASKS)}")
    numbers = isinstance(thresholds, list) and all(type(x) in (int, float) and 0 <= x <= 1 for x in thresholds)
    if not numbers or len(thresholds) != (classes if TASKS[task].several else 0):
        raise FileError("the config's thresholds must be numbers from 0 to 1, one for each class of a multi-label network")
    return tuple(map(float, thresholds))


def _onnx_to_json(options: OnnxOptions) -> dict[str, Any]:
    """The options as older versions write them, which only have softmax."""
    return {name: value for name, value in asdict(options).items() if (name, value) != ("activation", "softmax")}


def _onnx_from_json(values: Any) -> OnnxOptions:
    if not isinstance(values, dict) or {*values, "activation"} != {field.name for field in fields(OnnxOptions)}:
        raise FileError("the config's onnx must have exactly opset, batch and softmax")
    if type(values["opset"]) is not int or type(values["batch"]) not in (int, type(None)) or type(values["softmax"]) is not bool:
        raise FileError(f"the config's onnx holds {values}: opset is a number, batch a number or null, softmax true or false")
    try:
        return OnnxOptions(**values)
    except VerificationError as error:
        raise FileError(f"the config's onnx: {error}") from None


def _numbers(values: Any, number: int, what: str) -> Any:
    if not isinstance(values, list) or len(values) != number or not all(type(value) in (int, float) for value in values):
        raise FileError(f"the config's preprocessing holds {values!r}: expected a list of {plural(number, 'number')}, {what}")
    return tuple(values)
