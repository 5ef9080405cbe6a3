"""Run an ONNX file in another program, as a separate process started by `export.readers`. Needs only numpy and that program.

Arguments: key of the program, the file, images as .npy, a folder for results, batch sizes as 1,7,64. Results: version.txt has the
program's version, SIZE.npy its outputs in batches of SIZE, SIZE.txt its error for that batch size.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]

WEB = """
const fs = require("fs"), ort = require("onnxruntime-web"), [model, x, y, shape] = process.argv.slice(1);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
ort.InferenceSession.create(fs.readFileSync(model)).then(async (session) => {
  const data = fs.readFileSync(x), dims = JSON.parse(shape), one = dims.slice(1).reduce((a, b) => a * b, 4), parts = [];
  for (let at = 0; at < data.length; at += dims[0] * one) {
    const part = data.buffer.slice(data.byteOffset + at, data.byteOffset + Math.min(data.length, at + dims[0] * one));
    const images = new ort.Tensor("float32", new Float32Array(part), [part.byteLength / one, ...dims.slice(1)]);
    const result = (await session.run({ [session.inputNames[0]]: images }))[session.outputNames[0]];
    parts.push(Buffer.from(result.data.buffer, result.data.byteOffset, result.data.byteLength));
  }
  fs.writeFileSync(y, Buffer.concat(parts));
}).catch((error) => { process.stderr.write(`${error.message || error}`); process.exit(1); });
"""


def run_reader(program: str, model: Path, images: Path, into: Path, sizes: list[int]) -> None:
    """Save the program's outputs for batches of each size; the last batch may be smaller."""
    version, compute = PROGRAMS[program]
    (into / "version.txt").write_text(version())
    x = np.load(images)
    for size in sizes:
        try:
            outputs = compute(model, x, size)
        except Exception as error:  # programs raise their own classes
            (into / f"{size}.txt").write_text(" ".join(str(error).split()) or type(error).__name__)
        else:
            np.save(into / f"{size}.npy", outputs.astype(np.float32))


def _version(package: str) -> str:
    return str(importlib.import_module(package).__version__).partition("-")[0]


def _parts(x: Floats, size: int) -> list[Floats]:
    return [np.ascontiguousarray(x[at : at + size]) for at in range(0, len(x), size)]


def _opencv(model: Path, x: Floats, size: int) -> Floats:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(model))
    outputs = []
    for part in _parts(x, size):
        network.setInput(part)
        outputs.append(network.forward().copy())
    return np.concatenate(outputs)


def _openvino(model: Path, x: Floats, size: int) -> Floats:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(part)[0].copy() for part in _parts(x, size)])


def _ncnn(model: Path, x: Floats, size: int) -> Floats:
    """Run the network as converted by pnnx, in float32 throughout."""
    import ncnn
    import pnnx

    if size > 1:
        raise ValueError(f"ncnn takes one image per call, not {size}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.onnx"  # pnnx writes beside what it reads
        copy.write_bytes(model.read_bytes())
        shape = ",".join(map(str, (1, *x.shape[1:])))
        done = subprocess.run(
            [pnnx.EXEC_PATH, copy.name, f"inputshape=[{shape}]f32", "fp16=0"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not copy.with_suffix(".ncnn.param").exists():
            raise ValueError(f"pnnx cannot convert it: {(done.stderr or done.stdout)[-300:]}")
        with ncnn.Net() as network:
            options = network.opt
            options.use_vulkan_compute = options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
            options.use_bf16_storage = False
            if network.load_param(str(copy.with_suffix(".ncnn.param"))) or network.load_model(str(copy.with_suffix(".ncnn.bin"))):
                raise ValueError("ncnn cannot load what pnnx made of it")
            outputs = []
            for image in x:
                with network.create_extractor() as extractor:
                    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(image)))
                    code, values = extractor.extract("out0")
                    if code:
                        raise ValueError(f"ncnn cannot run it (code {code})")
                    outputs.append(np.array(values))
            return np.stack(outputs)


def _web_version() -> str:
    return _node('process.stdout.write(require("onnxruntime-web").env.versions.web)')


def _web(model: Path, x: Floats, size: int) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "x", Path(folder) / "y"
        inputs.write_bytes(x.tobytes())
        _node(WEB, str(model), str(inputs), str(outputs), json.dumps([size, *x.shape[1:]]))
        return np.frombuffer(outputs.read_bytes(), np.float32).reshape(len(x), -1)


def _node(code: str, *arguments: str) -> str:
    """Output of a JavaScript program, with the packages of the working directory."""
    done = subprocess.run(["node", "-e", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr[-300:] or f"node ended with code {done.returncode}")
    return done.stdout


PROGRAMS: dict[str, tuple[Callable[[], str], Callable[[Path, Floats, int], Floats]]] = {
    "opencv": (partial(_version, "cv2"), _opencv),
    "openvino": (partial(_version, "openvino"), _openvino),
    "ncnn": (partial(_version, "ncnn"), _ncnn),
    "onnxruntime-web": (_web_version, _web),
}


if __name__ == "__main__":
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    run_reader(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), [int(size) for size in sys.argv[5].split(",")])
