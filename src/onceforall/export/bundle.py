"""`Bundle`: several sub-networks of one supernet that share weights, for switching at run time.

x is (n, channels, height, width) float32, logits (n, classes).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, fx

from ..arch import Arch
from ..common.advice import not_a_bundle
from ..common.files import read_json, reading_or_writing, regular_file
from ..common.readable import amount, memory, milliseconds, plural
from ..errors import ArchError, CheckpointError, DataError, FileError, InfeasibleError
from ..nn.shared import constants_of, network_on, own_shapes, own_weights
from ..plan import Plan
from ..scores import METRICS, scores_in_words
from ..tasks.task import task_of
from .config import ExportConfig
from .place import errors_name

BUNDLE_FORMAT = "onceforall.bundle/1"
NAMES = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
MEASURED = ("held_out_top1", "test_top1", "test_images", "latency_ms", "device_latency_ms")
OTHERS = ("metric", "held_out_score", "test_score", "thresholds")  # of other metrics than top-1
Interval = tuple[float, float, float]  # ms, and the 95 % interval


@dataclass(frozen=True)
class BundleMember:
    """One network of a bundle, with its measurements; None was not measured.

    Args:
        name: letters, digits, dots, dashes and underscores.
        held_out_top1: a fraction, measured through the bundle.
        test_top1: a fraction, measured through the bundle.
        latency_ms: of a call through the bundle on the machine that made it.
        device_latency_ms: in the runtime of the device that it was chosen for.
        metric: of the run, a name in `onceforall.scores.METRICS`; `Bundle.under` chooses by it.
        held_out_score: value of that metric, if it is not top-1.
        test_score: likewise.
        thresholds: multi-label only: least probability of each label, as in an export's config.json.

    Raises:
        FileError: a name of another form.
    """

    name: str
    arch: Arch
    held_out_top1: float | None = None
    test_top1: float | None = None
    test_images: int | None = None
    latency_ms: Interval | None = None
    device_latency_ms: Interval | None = None
    metric: str = "top1"
    held_out_score: float | None = None
    test_score: float | None = None
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAMES.fullmatch(self.name):
            raise FileError(f"a network cannot be named {self.name!r}: letters, digits, dots, dashes and underscores are allowed")

    @property
    def known_ms(self) -> float | None:
        """Latency through the bundle, else on the device."""
        found = self.latency_ms or self.device_latency_ms
        return None if found is None else found[0]

    @property
    def told(self) -> str:
        """The test accuracy in words."""
        return scores_in_words(
            self.metric, {"top1": self.test_top1} | ({} if self.metric == "top1" else {self.metric: self.test_score})
        )

    @property
    def held_out(self) -> float:
        """By the metric, on held-out images; 0 if not measured."""
        return (self.held_out_top1 if self.metric == "top1" else self.held_out_score) or 0.0

    def to_json(self, plan: Plan) -> dict[str, Any]:
        """JSON values that `from_json` reads; the plan's costs are for people only."""
        costs = {"macs": plan.macs, "params": plan.params, "peak_memory_bytes": plan.peak_memory_bytes}
        measured = {name: getattr(self, name) for name in MEASURED}
        measured |= {name: getattr(self, name) for name in OTHERS} if self.metric != "top1" else {}
        return {"name": self.name, "resolution": self.arch.resolution, **costs, **measured, "arch": json.loads(self.arch.to_json())}

    @classmethod
    def from_json(cls, data: Any) -> "BundleMember":
        """Read the result of `to_json`.

        Raises:
            FileError: the data have another form.
            ArchError: the architecture is invalid.
        """
        if not isinstance(data, dict) or not {"name", "arch", *MEASURED} <= set(data):
            raise FileError(f"a network of the bundle must have name, arch, {', '.join(MEASURED)}")
        images, thresholds = _number("test_images", data["test_images"]), data.get("thresholds", [])
        if not isinstance(thresholds, list) or None in [_number("thresholds", each) for each in thresholds]:
            raise FileError(f"thresholds of a network are {thresholds!r}: a list of numbers is needed")
        if data.get("metric", "top1") not in METRICS:
            raise FileError(f"metric of a network is {data['metric']!r}: it must be one of {', '.join(METRICS)}")
        return cls(
            data["name"],
            Arch.from_json(json.dumps(data["arch"])),
            held_out_top1=_number("held_out_top1", data["held_out_top1"]),
            test_top1=_number("test_top1", data["test_top1"]),
            test_images=None if images is None else int(images),
            latency_ms=_interval("latency_ms", data["latency_ms"]),
            device_latency_ms=_interval("device_latency_ms", data["device_latency_ms"]),
            metric=data.get("metric", "top1"),
            held_out_score=_number("held_out_score", data.get("held_out_score")),
            test_score=_number("test_score", data.get("test_score")),
            thresholds=tuple(thresholds),
        )


class Bundle:
    """Networks whose weights are views of the same tensors.

    The network to run is an argument, not state, so several threads may run different ones. Weights belong to all networks: do not
    write to them. To train a network further, export it (`ofa specialise`) and use `onceforall.load`.

    Example:
        >>> bundle = onceforall.load_bundle("run/bundle")
        >>> logits = bundle(images, "2ms")
        >>> network = bundle.network(bundle.under(latency_ms=5))  # a plain torch.nn.Module in eval mode
    """

    def __init__(self, config: ExportConfig, members: Sequence[BundleMember], tensors: Mapping[str, Tensor]) -> None:
        """Raise a CheckpointError if a tensor is missing or too small, a FileError if two members have the same name."""
        self.config = config
        self.members = {member.name: member for member in members}
        if len(self.members) < len(members) or not members:
            raise FileError("a bundle needs one network or more, each with a name of its own")
        self.plans = {member.name: config.space.lower(member.arch, len(config.classes)) for member in members}
        self._networks = {
            name: network_on(plan, own_weights(plan, tensors), _statistics(name, plan, tensors))
            for name, plan in self.plans.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the networks, in the order given to `ofa bundle`."""
        return tuple(self.members)

    def network(self, name: str) -> fx.GraphModule:
        """A network by name; the same module each time.

        Raises:
            ArchError: there is no such network.
        """
        self._member(name)
        return self._networks[name]

    def __call__(self, images: Tensor, name: str) -> Tensor:
        """Logits of a network, without gradients.

        Raises:
            ArchError: there is no such network.
            DataError: the images do not have the network's resolution.
        """
        self._member(name)
        if tuple(images.shape[1:]) != (shape := self.plans[name].input_shape):
            raise DataError(f"images of shape {tuple(images.shape)}: {name} takes (n, {', '.join(map(str, shape))})")
        network = self.network(name)
        with torch.no_grad():
            logits: Tensor = network(images)
        return logits

    def under(
        self,
        *,
        latency_ms: float | None = None,
        macs: float | None = None,
        params: float | None = None,
        memory_bytes: float | None = None,
    ) -> str:
        """Name of the most accurate network on held-out images within the limits, or the fastest of equally accurate ones.

        Args:
            latency_ms: per call, measured on the machine that made the bundle.
            macs: multiply-accumulates per image.
            params: number of parameters.
            memory_bytes: peak of activations, float32, one image.

        Raises:
            InfeasibleError: no network keeps the limits, or latencies were not measured.
        """
        kept = list(self.members.values())
        for what, limit, cost, words in (
            ("latency", latency_ms, lambda m: m.known_ms, milliseconds),
            ("MACs", macs, lambda m: self.plans[m.name].macs, amount),
            ("parameters", params, lambda m: self.plans[m.name].params, amount),
            ("memory", memory_bytes, lambda m: self.plans[m.name].peak_memory_bytes, memory),
        ):
            if limit is None:
                continue
            known = {m.name: cost(m) for m in kept}
            kept = [m for m in kept if (c := known[m.name]) is not None and c <= limit]
            if not kept:
                least = min((value for value in known.values() if value is not None), default=None)
                raise InfeasibleError(
                    f"no network of the bundle keeps a {what} of {words(limit)}: "
                    + ("none was measured" if least is None else f"the least is {words(least)}")
                )
        return max(kept, key=lambda m: (m.held_out, -(m.known_ms or 0.0))).name

    def _member(self, name: str) -> BundleMember:
        if name not in self.members:
            raise ArchError(f"no network {name!r} in this bundle: choose from {', '.join(self.members)}")
        return self.members[name]


def load_bundle(folder: Path | str) -> Bundle:
    """Load the bundle in a folder made by `ofa bundle`, on the CPU.

    Raises:
        FileError: a file is missing, or does not belong to a bundle of this version.
        CheckpointError: the weights are damaged or belong to another bundle.
    """
    folder = Path(folder)
    if why := not_a_bundle(folder):
        raise FileError(why)
    with errors_name(folder / "bundle.json") as path:
        data = read_json(path)
        if not isinstance(data, dict) or data.get("format") != BUNDLE_FORMAT:
            raise FileError(f"not a bundle of networks: this version reads format {BUNDLE_FORMAT!r}")
        if not {"config", "weights_sha256", "members"} <= set(data) or not isinstance(data["members"], list):
            raise FileError("config, weights_sha256 or the list of members is missing: make the bundle again")
        config = ExportConfig.from_json(data["config"], of_several=True)
        members = [BundleMember.from_json(member) for member in data["members"]]
        for member in members:
            config.space.check(member.arch)
            if len(member.thresholds) != (len(config.classes) if task_of(config.task).several else 0):
                raise FileError(f"{member.name} has {plural(len(member.thresholds), 'threshold')}: make the bundle again")
    path = folder / "weights.safetensors"
    plans = [config.space.lower(member.arch, len(config.classes)) for member in members]
    tensors = _read(path, data["weights_sha256"], {name for plan in plans for name in constants_of(plan)})
    try:
        return Bundle(config, members, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}: make the bundle again") from None
    except FileError as error:
        raise FileError(f"{folder / 'bundle.json'}: {error}") from None


def _read(path: Path, digest: str, constants: Set[str]) -> dict[str, Tensor]:
    """The tensors, with convolutions in channels-last format. Constants, such as masks, may be infinite."""
    regular_file(path)
    with reading_or_writing(path):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path}: damaged, or of another bundle than bundle.json: make the bundle again")
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}): make the bundle again") from None
    for name, tensor in tensors.items():
        if name not in constants and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite: make the bundle again")
    last = torch.channels_last
    return {name: value.contiguous(memory_format=last) if value.ndim == 4 else value for name, value in tensors.items()}


def _statistics(member: str, plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, shape in own_shapes(plan)[1].items():
        own = f"{member}/{name}"
        if own not in tensors or tuple(tensors[own].shape) != shape:
            raise CheckpointError(f"{own} is missing or not of shape {shape}")
        found[name] = tensors[own]
    return found


def _number(name: str, value: Any) -> float | None:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise FileError(f"{name} of a network is {value!r}: a number or null is needed")
    return value


def _interval(name: str, value: Any) -> Interval | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or any(_number(name, each) is None for each in value):
        raise FileError(f"{name} of a network is {value!r}: three numbers or null are needed")
    return (value[0], value[1], value[2])
