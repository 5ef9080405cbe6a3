"""Write the folder of a bundle. It is read back, verified and measured before it is moved into place."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..backends.pytorch import from_source
from ..common.files import write_bytes, write_json, write_text
from ..common.packages import one_line
from ..errors import FileError, VerificationError
from ..nn.bundle_source import bundle_needs, to_bundle_source
from ..nn.shared import own_shapes, share
from ..supernets.supernet import Supernet
from ..tasks.task import MULTICLASS
from .bundle import BUNDLE_FORMAT, Bundle, BundleMember, load_bundle, read_index
from .bundle_card import BundleFacts, write_bundle_card
from .config import ExportConfig, InputSteps
from .place import in_place_when_done, require_replaceable
from .program import PREPROCESS, write_preprocess
from .proof import Proof, active_logits, prove, reference_of
from .trained_on import TRAINED_ON, TrainedOn, write_trained_on

FILES = frozenset({"README.md", "bundle.json", "model.py", PREPROCESS, "weights.safetensors", "__pycache__", TRAINED_ON})
BATCHES = (1, 7, 64)
BundleProofs = dict[str, dict[str, Proof]]  # by name of the network, then by what read it
ABOUT = """Networks exported by onceforall, with shared weights stored once. `Bundle(path)` reads weights.safetensors.

preprocess.py prepares images as bundle.json says, which also has the measurements."""


@dataclass(frozen=True)
class Together:
    """A network to put into a bundle.

    Args:
        member: its name and architecture.
        network: extracted from the supernet and recalibrated, in eval mode.
        images: real preprocessed images (n, channels, height, width) to verify it with.
    """

    member: BundleMember
    network: nn.Module
    images: Tensor


def write_bundle(
    folder: Path,
    networks: Sequence[Together],
    *,
    supernet: Supernet,
    classes: Sequence[str],
    preprocessing: InputSteps,
    measure: Callable[[Bundle, Path], tuple[Sequence[BundleMember], BundleFacts]],
    task: str = MULTICLASS.name,
    trained_on: TrainedOn | None = None,
) -> tuple[Bundle, BundleFacts, BundleProofs]:
    """Write networks of one supernet with each weight stored once: weights, model.py, bundle.json and card.

    The folder appears complete or not at all.

    Args:
        folder: replaced if it holds only an earlier bundle.
        networks: the networks, in the order of the bundle.
        supernet: the supernet of all networks.
        classes: names, in the order of the logits.
        preprocessing: what the networks expect.
        measure: called with the verified bundle and its folder; returns the members with measurements, and the other facts.
        task: a name in `onceforall.tasks.task.TASKS`; members of multi-label tasks have thresholds.
        trained_on: the training images, as far as known.

    Raises:
        VerificationError: a network is in train mode, or its logits through the bundle differ.
        FileError: the folder holds something else or cannot be written, or two members have the same name.
    """
    config = ExportConfig(supernet.space, tuple(classes), preprocessing, task=task)
    members = [each.member for each in networks]
    with in_place_when_done(folder, room_for_bundle) as temporary:
        digest = _write_weights(temporary / "weights.safetensors", networks, supernet)
        plans = {member.name: config.space.lower(member.arch, len(config.classes)) for member in members}
        write_text(temporary / "model.py", to_bundle_source(plans, about=f"{ABOUT}\nNeeds {bundle_needs(plans.values())}."))
        _write_index(temporary, config, members, digest)
        write_preprocess(temporary)
        write_trained_on(temporary, trained_on)
        bundle = load_bundle(temporary)
        proofs = _prove(bundle, temporary, networks, supernet)
        measured, facts = measure(bundle, temporary)
        _write_index(
            temporary, config, measured, digest,
            facts=asdict(facts), proofs={name: {reader: asdict(p) for reader, p in of.items()} for name, of in proofs.items()},
        )  # fmt: skip
        bundle = load_bundle(temporary)
        write_text(temporary / "README.md", write_bundle_card(facts, bundle, proofs, (temporary / TRAINED_ON).exists()))
    return bundle, facts, proofs


def _write_weights(path: Path, networks: Sequence[Together], supernet: Supernet) -> str:
    """Write shared tensors and each network's own statistics; return the file's sha256."""
    plans = {each.member.name: supernet.space.lower(each.member.arch, supernet.num_classes) for each in networks}
    if len(plans) < len(networks) or not plans:
        raise FileError("a bundle needs one network or more, each with a name of its own")
    tensors = share(supernet.state_dict(), list(plans.values()))
    for each in networks:
        state = each.network.state_dict()
        tensors |= {f"{each.member.name}/{name}": state[name] for name in own_shapes(plans[each.member.name])[1]}
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def _write_index(folder: Path, config: ExportConfig, members: Sequence[BundleMember], digest: str, **more: Any) -> None:
    plans = [config.space.lower(member.arch, len(config.classes)) for member in members]
    entries = [member.to_json(plan) for member, plan in zip(members, plans, strict=True)]
    head = {"format": BUNDLE_FORMAT, "config": config.to_json(), "weights_sha256": digest}
    write_json(folder / "bundle.json", {**head, "members": entries, **more})


def _prove(bundle: Bundle, folder: Path, networks: Sequence[Together], supernet: Supernet) -> BundleProofs:
    """Compare each network through bundle, model.py, extraction and supernet; a `VerificationError` if they differ."""
    from_model_py = _run_source(folder)
    proofs: BundleProofs = {}
    for each in networks:
        name, images = each.member.name, each.images.cpu()
        if any(module.training for module in each.network.modules()):
            raise VerificationError(f"{name} is in train mode: recalibrate it first, which puts it in eval mode")
        network = each.network.cpu()
        extracted, active = reference_of(network, images), active_logits(supernet, each.member.arch, network, images)
        proofs[name] = {}
        for reader, network_of in (("onceforall.load_bundle", bundle.network), ("model.py", from_model_py)):
            what = f"{name} of the bundle, read by {reader}"
            run = torch.no_grad()(network_of(name))
            proofs[name][reader] = prove(what, run, images, extracted=extracted, active=active, batches=BATCHES, int8=False)
    return proofs


def _run_source(folder: Path) -> Callable[[str], nn.Module]:
    """A function that makes networks by name with model.py."""
    bundle = from_source(folder, "Bundle")

    def network(name: str) -> nn.Module:
        try:
            loaded: nn.Module = bundle.network(name)
        except Exception as error:
            raise VerificationError(f"{folder / 'model.py'}: {name} cannot be made: {one_line(error)}") from error
        return loaded

    return network


def room_for_bundle(folder: Path) -> None:
    """Check that a bundle may be written here.

    Raises:
        FileError: something else is there.
    """
    require_replaceable(folder, files=FILES, what="a bundle of networks", main="bundle.json", check=read_index)
