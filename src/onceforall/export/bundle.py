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
from ..common.records import as_record
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
OTHER_METRIC = ("metric", "held_out_score", "test_score", "thresholds")  # further fields, if the metric is not top-1
Interval = tuple[float, float, float]  # ms, and the 95 % interval


@dataclass(frozen=True)
class BundleMember:
    """One network of a bundle, with its measurements; None if not measured.

    Args:
        name: letters, digits, dots, dashes and underscores.
        held_out_top1: a fraction, measured through the bundle.
        test_top1: a fraction, measured through the bundle.
        latency_ms: latency of a call through the bundle, on the machine that made it.
        device_latency_ms: latency in the runtime of the device that it was chosen for.
        metric: the run's, a name in `onceforall.scores.METRICS`; `Bundle.under` chooses by it.
        held_out_score: value of that metric on held-out images, if it is not top-1.
        test_score: the same on test images.
        thresholds: multi-label only: least probability of each label, as in an export's config.json.

    Raises:
        FileError: an invalid name or an unknown metric.
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
        if self.metric not in METRICS:
            raise FileError(f"the metric of {self.name} is {self.metric!r}: it must be one of {', '.join(METRICS)}")

    @property
    def known_ms(self) -> float | None:
        """Latency through the bundle, else on the device."""
        latency = self.latency_ms or self.device_latency_ms
        return None if latency is None else latency[0]

    @property
    def test_in_words(self) -> str:
        """The test scores as text."""
        return scores_in_words(self.metric, {self.metric: self.test_score, "top1": self.test_top1})

    @property
    def held_out(self) -> float:
        """The metric's value on held-out images; 0 if not measured."""
        return (self.held_out_top1 if self.metric == "top1" else self.held_out_score) or 0.0

    def to_json(self, plan: Plan) -> dict[str, Any]:
        """JSON values that `from_json` reads; the plan's costs are for people only."""
        costs = {"macs": plan.macs, "params": plan.params, "peak_memory_bytes": plan.peak_memory_bytes}
        measured = {name: getattr(self, name) for name in MEASURED}
        measured |= {name: getattr(self, name) for name in OTHER_METRIC} if self.metric != "top1" else {}
        return {"name": self.name, "resolution": self.arch.resolution, **costs, **measured, "arch": json.loads(self.arch.to_json())}

    @classmethod
    def from_json(cls, data: Any, path: Path) -> "BundleMember":
        """Read the result of `to_json` from a file; a `FileError` with the file's path if it is damaged."""
        if isinstance(data, dict):
            data = data | {"arch": json.dumps(data.get("arch"))}
        return as_record(data, cls, path, otherwise="make the bundle again")


class Bundle:
    """Networks whose weights are views of the same tensors.

    The network to run is an argument, not state, so several threads may run different ones. The networks share their weights: do
    not write to them. To train a network further, export it (`ofa specialise`) and use `onceforall.load`.

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
        if name not in self._networks:
            raise ArchError(f"no network {name!r} in this bundle: choose from {', '.join(self.members)}")
        return self._networks[name]

    def __call__(self, images: Tensor, name: str) -> Tensor:
        """Logits of a network, without gradients.

        Raises:
            ArchError: there is no such network.
            DataError: the images do not have the network's resolution.
        """
        network = self.network(name)
        if tuple(images.shape[1:]) != (shape := self.plans[name].input_shape):
            raise DataError(f"images of shape {tuple(images.shape)}: {name} takes (n, {', '.join(map(str, shape))})")
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
        """Name of the network within the limits that is most accurate on held-out images; of equally accurate ones, the fastest.

        Args:
            latency_ms: per call, measured on the machine that made the bundle.
            macs: multiply-accumulates per image.
            params: number of parameters.
            memory_bytes: peak of activations, float32, one image.

        Raises:
            InfeasibleError: no network is within the limits, or latencies were not measured.
        """
        within = list(self.members.values())
        for what, limit, cost, words in (
            ("latency", latency_ms, lambda m: m.known_ms, milliseconds),
            ("MACs", macs, lambda m: self.plans[m.name].macs, amount),
            ("parameters", params, lambda m: self.plans[m.name].params, amount),
            ("memory", memory_bytes, lambda m: self.plans[m.name].peak_memory_bytes, memory),
        ):
            if limit is None:
                continue
            known = {m.name: c for m in within if (c := cost(m)) is not None}
            within = [m for m in within if m.name in known and known[m.name] <= limit]
            if not within:
                raise InfeasibleError(
                    f"no network of the bundle is within {words(limit)} ({what}): "
                    + (f"the smallest is {words(min(known.values()))}" if known else "none was measured")
                )
        return max(within, key=lambda m: (m.held_out, -(m.known_ms or 0.0))).name


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
        data = read_index(path)
        if not {"config", "weights_sha256", "members"} <= set(data) or not isinstance(data["members"], list):
            raise FileError("config, weights_sha256 or the list of members is missing: make the bundle again")
        config = ExportConfig.from_json(data["config"], bundled=True)
        members = [BundleMember.from_json(member, path) for member in data["members"]]
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


def read_index(path: Path) -> dict[str, Any]:
    """Read a bundle.json; a `FileError` if it has another format."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != BUNDLE_FORMAT:
        raise FileError(f"not a bundle of networks: this version reads format {BUNDLE_FORMAT!r}")
    return data


def _read(path: Path, digest: str, constants: Set[str]) -> dict[str, Tensor]:
    """Read the tensors; those of convolutions become channels-last. Constants, such as masks, may be infinite."""
    regular_file(path)
    with reading_or_writing(path):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path}: damaged, or not the weights of bundle.json: make the bundle again")
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
    statistics = {}
    for name, shape in own_shapes(plan)[1].items():
        key = f"{member}/{name}"
        if key not in tensors or tuple(tensors[key].shape) != shape:
            raise CheckpointError(f"{key} is missing or not of shape {shape}")
        statistics[name] = tensors[key]
    return statistics
