"""Weights as a safetensors file, without pickle; every tensor is checked against the plan when read."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import fx, nn

from ..backends.pytorch import safetensors_of
from ..common.files import write_bytes
from ..common.places import plain_path
from ..errors import CheckpointError, FileError
from ..nn.shared import constants_of
from ..nn.static import build
from ..plan import Plan


def write_weights(path: Path, network: nn.Module) -> None:
    """Write the state dict, atomically.

    Raises:
        FileError: the file cannot be written.
    """
    write_bytes(path, safetensors_of(network))


def read_weights(path: Path, plan: Plan) -> fx.GraphModule:
    """The plan's network with the file's weights, in eval mode.

    Raises:
        FileError: there is no such file.
        CheckpointError: it is damaged, or the weights belong to another plan.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file: check the path, or export the network again")
    try:
        with plain_path(path) as plain:
            state = load_file(plain)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}): export the network again") from None
    network = build(plan)
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        what = "is missing" if name in expected else "is unknown"
        raise CheckpointError(f"{path}: {name} {what}: the weights belong to another architecture than arch.json")
    constants = constants_of(plan)  # masks may hold infinities
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, arch.json needs {tuple(expected[name].shape)}: export again"
            )
        if name not in constants and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite: export the network again")
    network.load_state_dict(state)
    return network.eval()
