"""Write ONNX files with torch's exporter, for networks with operations that `nn.onnx` cannot write."""

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.onnx_options import INPUT, OUTPUT, PROBABILITIES
from ..common.packages import no_stdout, one_line, quiet_packages
from ..errors import DeviceError
from ..plan import Plan
from .static import build


def by_torch(plan: Plan, state: Mapping[str, Tensor], why: str, *, batch: int | None, opset: int, ending: str | None) -> bytes:
    """The network of a plan as an ONNX model with the inputs and outputs of `nn.onnx.to_onnx`.

    Uses torch's older exporter: the newer one needs another package (onnxscript) and only writes opset 18 or later.

    Args:
        state: the network's tensors.
        why: what `nn.onnx` could not write.
        batch: images per call; None leaves it free.
        opset: version of the operators.
        ending: final activation, "softmax" over the classes or "sigmoid"; None for logits.

    Raises:
        DeviceError: torch cannot write it either.
    """
    network: nn.Module = build(plan)
    network.load_state_dict(state)
    network.eval().float()
    images = torch.zeros(batch or 2, *plan.input_shape)
    try:
        with warnings.catch_warnings(), quiet_packages(), no_stdout(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            wrapped = _Outputs(network, ending)
            names = wrapped.names_for(images)
            free = {} if batch else {name: {0: "batch"} for name in (INPUT, *names)}
            torch.onnx.export(
                wrapped,
                (images,),
                str(Path(folder) / "model.onnx"),
                input_names=[INPUT],
                output_names=names,
                opset_version=opset,
                dynamic_axes=free,
                dynamo=False,
            )
            return (Path(folder) / "model.onnx").read_bytes()
    except Exception as error:  # torch's exporter has no common error class
        raise DeviceError(
            f"ONNX with opset {opset} cannot express {why}, and torch's exporter fails too ({one_line(error)[:200]}): other "
            "formats can: torch-export (model.pt2) and pytorch"
        ) from None


class _Outputs(nn.Module):
    """A network that returns its tensors as a flat sequence, in the order of their names."""

    def __init__(self, network: nn.Module, ending: str | None) -> None:
        super().__init__()
        self.network = network
        self.ending = ending

    def names_for(self, images: Tensor) -> list[str]:
        found = self.network(images)
        if isinstance(found, Tensor):
            return [PROBABILITIES if self.ending else OUTPUT]
        if self.ending:
            raise ValueError(f"a {self.ending} of several outputs")
        return list(names_of(found))

    def forward(self, images: Tensor) -> Any:
        found = self.network(images)
        if isinstance(found, Tensor):
            return found if self.ending is None else found.sigmoid() if self.ending == "sigmoid" else found.softmax(1)
        return tuple(names_of(found).values())


def names_of(outputs: Any) -> dict[str, Any]:
    """Leaves of nested mappings, tuples and lists except None, by the keys and positions that lead to them."""
    found: dict[str, Any] = {}

    def go(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                go(item, (*path, str(key)))
        elif isinstance(value, tuple | list):
            for i, item in enumerate(value):
                go(item, (*path, str(i)))
        elif value is not None:
            name = "_".join(path) if path and not path[0].isdecimal() else "_".join(("output", *path))
            found[re.sub(r"\W", "_", name)] = value

    go(outputs, ())
    return found
