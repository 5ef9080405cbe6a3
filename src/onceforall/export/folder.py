"""Write an exported folder. It is verified and measured before it is moved into place."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from ..arch import Arch
from ..backends import FORMATS
from ..backends.format import Job, Run, in_batches
from ..common.advice import not_an_export
from ..common.files import read_json, read_text, write_json, write_text
from ..errors import FileError, VerificationError
from ..ops import Call
from ..picture import draw
from ..plan import Plan
from ..supernets.supernet import Supernet
from .card import CardFacts, write_card
from .config import ExportConfig
from .place import errors_name, in_place_when_done, require_replaceable
from .program import PREPROCESS, write_preprocess
from .proof import Proof, Reference, active_logits, compare_logits, prove, reference_of
from .readers import ReaderResult, read_elsewhere_too, readers_of
from .trained_on import TRAINED_ON, TrainedOn, write_trained_on
from .weights import read_weights

INT8_SOFTMAX = 0.05  # allowed difference of probabilities from the softmax of the same int8 graph's logits, due to rounding
ALWAYS = frozenset({"README.md", "arch.json", "config.json", "network.svg", PREPROCESS, TRAINED_ON})


@dataclass(eq=False)
class Exporting:
    """An exported folder in the making, whose files are written and verified in a temporary place; see `exporting`.

    Args:
        files: the temporary folder.
        config: the content of its config.json.
        job: what the files were made from.
        images: the images they were verified on.
        reference: the network's own logits for these images.
        readers: other programs to run the ONNX files in.
        facts: the measurements, once finished.
        readings: results of other programs on the ONNX files.
    """

    folder: Path
    files: Path
    config: ExportConfig
    arch: Arch
    job: Job
    images: Tensor
    reference: Reference
    readers: Sequence[str]
    proofs: dict[str, Proof]
    facts: CardFacts | None = None
    readings: Sequence[ReaderResult] = ()

    def finish(self, facts: CardFacts, shares: Mapping[str, float] | None = None) -> None:
        """Remove the files of formats that `facts` leaves out, run ONNX files in other programs, draw the picture, write the card.

        Args:
            facts: measurements through the files.
            shares: each segment's share of the latency, for the picture.
        """
        for name in facts.left_out:
            del self.proofs[name]
            for file in FORMATS[name].files:
                (self.files / file).unlink()
        readings = [reading for name in self.proofs if FORMATS[name].is_onnx for reading in self._read(name)]
        sizes = {name: sum((self.files / file).stat().st_size for file in FORMATS[name].files) for name in self.proofs}
        plan = self.job.plan
        write_text(self.files / "network.svg", draw(plan, self.arch, shares=shares, title=facts.name) + "\n")
        card = write_card(
            facts, plan=plan, arch=self.arch, config=self.config, proofs=self.proofs, sizes=sizes, readings=readings,
            hashed=(self.files / TRAINED_ON).exists(),
        )  # fmt: skip
        write_text(self.files / "README.md", card)
        self.facts, self.readings = facts, readings

    def _read(self, name: str) -> list[ReaderResult]:
        """Run one ONNX file in other programs."""
        format, size, images, reference = FORMATS[name], self.job.onnx.batch, self.images, self.reference
        if size is not None:  # repeat the images, so that no batch is smaller
            images = images.repeat(-(-size // len(images)), 1, 1, 1)
            images = images[: len(images) // size * size]
            logits = reference.logits
            reference = replace(reference, logits=logits.repeat(-(-size // len(logits)), 1)[: len(images)])
        return read_elsewhere_too(
            self.files / format.files[0],
            images,
            reference.probabilities(self.job.onnx.activation) if self.job.onnx.softmax else reference,
            readers=self.readers,
            batches=_batches(name, self.job),
            int8=format.int8,
        )


@contextmanager
def exporting(
    folder: Path,
    config: ExportConfig,
    arch: Arch,
    network: nn.Module,
    *,
    formats: Sequence[str],
    images: Tensor,
    supernet: Supernet | None = None,
    calibration: Tensor | None = None,
    readers: Sequence[str] | None = None,
    trained_on: TrainedOn | None = None,
) -> Iterator[Exporting]:
    """Export a network: weights, runtime files, architecture, config, picture and card.

    Inside the `with` block the files are written and verified: measure them, then call `finish`. The folder appears complete or
    not at all: it is made under a temporary name and renamed at the end. A network on another device is moved to the CPU.

    Args:
        folder: replaced if it holds only an earlier export.
        config: the network's space, classes and preprocessing (of any resolution), its task, and the options of the formats that
            are made from an ONNX graph.
        network: extracted and recalibrated, in eval mode.
        formats: keys of `FORMATS`; "pytorch" is always written.
        images: real preprocessed images (n, c, height, width) to verify each file on.
        supernet: the network's supernet, to compare each file with the sub-network inside it too.
        calibration: preprocessed training images (n, c, height, width), which int8 formats need.
        readers: other programs to run the ONNX files in, keys of `READERS`; None for all that are installed.
        trained_on: the training images, as far as known.

    Raises:
        VerificationError: a format or reader is unknown, the network is in train mode, or a file's results differ from the
            network's.
        FileError: the folder holds something else, or cannot be written.
        MissingExtraError: a format needs a package that is not installed.
    """
    for name in formats:
        if name not in FORMATS:
            raise VerificationError(f"unknown export format {name!r}: choose from {', '.join(FORMATS)}")
        FORMATS[name].require()
    if any(module.training for module in network.modules()):
        raise VerificationError("the network is in train mode: recalibrate it first, which puts it in eval mode")
    _require_logits(config.space.lower(arch, len(config.classes)), len(config.classes))
    programs = readers_of(readers) if any(FORMATS[name].is_onnx for name in formats) else []
    config = config.of(arch, from_onnx=any(FORMATS[name].from_onnx for name in formats))
    network, images = network.cpu(), images.cpu()
    job = config.job(arch, network, None if calibration is None else calibration.cpu())
    reference = reference_of(network, images)
    active = None if supernet is None else active_logits(supernet, arch, network, images)
    with in_place_when_done(folder, room_for_export) as files:
        wanted = dict.fromkeys(("pytorch", *formats))
        proofs = {name: _write_and_verify(name, files, job, images, reference, active) for name in wanted}
        write_text(files / "arch.json", arch.to_json() + "\n")
        write_json(files / "config.json", config.to_json())
        write_preprocess(files)
        write_trained_on(files, trained_on)
        made = Exporting(folder, files, config, arch, job, images, reference, programs, proofs)
        yield made
        assert made.facts is not None, "no card was written: call finish"


def load(folder: Path | str) -> fx.GraphModule:
    """Load an exported network as a plain torch module in eval mode, on the CPU.

    Raises:
        FileError: a file is missing, or does not belong to an export of this version.
        CheckpointError: the weights are damaged or belong to another network.
    """
    folder = Path(folder)
    if why := not_an_export(folder):
        raise FileError(why)
    with errors_name(folder / "config.json") as path:
        config = ExportConfig.from_json(read_json(path))
    with errors_name(folder / "arch.json") as path:
        plan = config.space.lower(Arch.from_json(read_text(path)), len(config.classes))
    return read_weights(folder / "weights.safetensors", plan)


def export_files() -> frozenset[str]:
    """Names of all files that an export can hold in this version."""
    return ALWAYS.union(*(format.files for format in FORMATS.values()))


def room_for_export(folder: Path) -> None:
    """Check that an export may be written here.

    Raises:
        FileError: something else is there.
    """
    require_replaceable(
        folder,
        files=export_files() | {"__pycache__"},  # left by importing model.py
        what="an exported network",
        main="config.json",
        check=lambda path: ExportConfig.from_json(read_json(path)),
    )


def _require_logits(plan: Plan, classes: int) -> None:
    several = any(isinstance(op, Call) and op.target == "output" for op in plan.ops)
    if several or plan.output_shape != (classes,):
        output = "several tensors" if several else f"(n, {', '.join(map(str, plan.output_shape))})"
        raise VerificationError(
            f"the network returns {output}, but an exported folder is for a classifier, which returns logits (n, {classes}): write "
            "one file with onceforall.nn.onnx.to_onnx(space.lower(arch), network) or torch.export instead"
        )


def _write_and_verify(name: str, folder: Path, job: Job, images: Tensor, extracted: Reference, active: Tensor | None) -> Proof:
    """Write one format's files, load them and verify them.

    Files that end with a softmax are verified twice. The same graph without it is verified by its logits, and that proof is
    returned: the probabilities of a confident network hardly move, whatever the logits. The file itself is verified by its
    probabilities; int8 probabilities may be off by any amount, so they are compared with the softmax of the logits of the graph
    without it.
    """
    format, batches = FORMATS[name], _batches(name, job)

    def write(folder: Path, job: Job) -> Run:
        format.write(folder, job)
        run = format.load(folder, torch.get_num_threads())
        return in_batches(run, job.onnx.batch) if format.from_onnx else run

    def verify(run: Run) -> Proof:
        return prove(format.files[0], run, images, extracted=extracted, active=active, batches=batches, int8=format.int8)

    run = write(folder, job)
    if not (format.from_onnx and job.onnx.softmax):
        return verify(run)
    with tempfile.TemporaryDirectory() as temporary:
        without = write(Path(temporary), replace(job, onnx=replace(job.onnx, softmax=False)))
        proof, logits = verify(without), without(images).double() if format.int8 else extracted.logits
        del without  # on some systems it keeps its file open
    expected = replace(extracted, logits=logits).probabilities(job.onnx.activation)
    tolerance = INT8_SOFTMAX if format.int8 else None
    compare_logits(
        format.files[0], expected, [torch.cat([run(part) for part in torch.split(images, size)]) for size in batches], tolerance
    )
    return proof


def _batches(name: str, job: Job) -> tuple[int, ...]:
    """The batch sizes to verify."""
    format = FORMATS[name]
    return (job.onnx.batch,) if format.from_onnx and job.onnx.batch is not None else format.batches
