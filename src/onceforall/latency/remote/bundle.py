"""What is sent to the remote machine: the agent's code, and jobs."""

import inspect
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...backends import RUNTIMES
from ...backends.common import noise
from ...nn.onnx import to_onnx
from ...ops import Shape
from ...plan import Plan
from ..networks import random_weights
from .agent import WEIGHTS

PACKAGE = Path(__file__).parents[2]
SOURCES = ("errors.py", "common/processors.py", "latency/measure.py", "latency/remote/agent.py")
EMPTY = ("__init__.py", "common/__init__.py", "latency/__init__.py", "latency/remote/__init__.py")
ALIGNMENT = 64
SMALL = 1024  # maximum bytes of a tensor that stays in the model
LEAST_PYTHON = (3, 10)
START = f"""import sys
if sys.version_info < {LEAST_PYTHON}:
    print('{{"error": "Python %d.%d is too old, {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} is needed"}}' % sys.version_info[:2])
    sys.exit(1)
try:
    from onceforall import there
    from onceforall.latency.remote.agent import run_agent
except ImportError as error:
    print('{{"error": "%s: pip install numpy there"}}' % str(error).replace('"', "'"))
    sys.exit(1)
sys.exit(run_agent(sys.argv[1:], there.PACKAGE, there.open_model))
"""
IMPORTS = "import importlib\nfrom collections.abc import Callable, Sequence\nfrom typing import Any\n"  # for `Runtime.there`


def agent_zip(runtime: str) -> bytes:
    """The agent as a zip that Python runs, including the runtime's model loader; the same sources give the same bytes."""
    files = {f"onceforall/{name}": b"" for name in EMPTY}
    files |= {f"onceforall/{name}": (PACKAGE / name).read_bytes() for name in SOURCES}
    there, package = RUNTIMES[runtime].there, RUNTIMES[runtime].package
    names = f"PACKAGE = {package!r}\nopen_model = {there[-1].__name__}\n"
    files["onceforall/there.py"] = "\n\n".join([IMPORTS, *map(inspect.getsource, there), names]).encode()
    return _zipped({**files, "__main__.py": START.encode()})


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """An ONNX model, the shape of one input, and the bytes it reads from a file of weights created on the remote machine."""

    content: bytes
    shape: Shape
    weights_bytes: int = 0

    @classmethod
    def stand_in(cls, plan: Plan, runtime: str) -> "RemoteModel":
        """A model of the plan with random weights, as the named runtime on this machine would make it.

        Raises:
            MissingExtraError: the package onnx is not installed here.
        """
        backend = RUNTIMES[runtime]
        content = to_onnx(plan, random_weights(plan), opset=backend.opset)
        if backend.quantise is not None:  # int8 weights are sent
            return cls(backend.model_of(content, noise(plan.input_shape)), plan.input_shape)
        light, size = without_weights(content)
        return cls(light, plan.input_shape, size)


def job_zip(models: Sequence[RemoteModel], *, threads: int, batch: int, measure: Mapping[str, Any]) -> bytes:
    """A job for the agent: models, and how to measure them.

    Args:
        threads: number of threads per network.
        measure: arguments of `time_calls`.
    """
    names = [f"models/{i}.onnx" for i in range(len(models))]
    job = {
        "threads": threads,
        "models": names,
        "shapes": [[batch, *model.shape] for model in models],
        "weights_bytes": max((model.weights_bytes for model in models), default=0),
        "measure": dict(measure),
    }
    contents = dict(zip(names, (model.content for model in models), strict=True))
    return _zipped({"job.json": json.dumps(job).encode(), **contents})


def without_weights(model: bytes) -> tuple[bytes, int]:
    """The ONNX model with its larger tensors moved to an external file, and the size of that file."""
    import onnx

    proto, offset = onnx.load_from_string(model), 0
    for tensor in proto.graph.initializer:
        size = len(tensor.raw_data)
        if size <= SMALL:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return bytes(proto.SerializeToString()), offset


def digest_of_bytes(data: bytes) -> str:
    """A name for these bytes."""
    return sha256(data).hexdigest()[:16]


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
