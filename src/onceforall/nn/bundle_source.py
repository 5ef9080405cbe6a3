"""Several networks on shared weights as the text of a Python file that needs torch only.

Its `Bundle` does what `nn.shared` does: the same names, the same views, the same smaller kernels.
"""

from collections.abc import Mapping

from ..plan import Plan
from .source import READ, classes_of, network_class, opening

__all__ = ["NEEDS", "to_bundle_source"]

NEEDS = "Python 3.8 or later with torch 2.1 or later"

BUNDLE = '''class Bundle:
    """Networks in eval mode on the tensors of one file: `Bundle("weights.safetensors").network(name)`, see NETWORKS for names.

    Weights are views of what is in the file, so they belong to all networks: do not write to them. Only kernels that are smaller
    than the stored ones are computed, when a network is asked for first. Nothing is active: threads may run several at once.
    """

    def __init__(self, path: str | Path) -> None:
        self.tensors = {name: _channels_last(tensor) for name, tensor in read(path).items()}
        self.networks: dict[str, nn.Module] = {}

    def network(self, name: str) -> nn.Module:
        """A network for images (n, 3, r, r), r being RESOLUTIONS[name]."""
        if name not in self.networks:
            with torch.device("meta"):
                network = NETWORKS[name]()
            state = {key: self._own(name, key, value.shape) for key, value in network.state_dict().items()}
            network.load_state_dict(state, assign=True)
            self.networks[name] = network.requires_grad_(False).eval()
        return self.networks[name]

    def _own(self, name: str, key: str, shape: torch.Size) -> Tensor:
        if key.endswith("num_batches_tracked"):
            return torch.zeros((), dtype=torch.long)
        if key.endswith(("running_mean", "running_var")):  # those of BatchNorm are each network's own
            return self.tensors[f"{name}/{key}"]
        tensor = self.tensors[key]
        if tensor.ndim < 4:
            return tensor[tuple(map(slice, shape))]
        tensor = tensor[: shape[0], : shape[1]]  # the first channels
        while tensor.shape[-1] > shape[-1]:  # the centre of the kernels, times a learnt matrix
            big = tensor.shape[-1]
            (matrix,) = (value for at, value in self.tensors.items() if at.startswith(f"{key.removesuffix('weight')}{big}to"))
            small = round(len(matrix) ** 0.5)
            edge = (big - small) // 2
            centre = tensor[:, :, edge : edge + small, edge : edge + small].flatten(2)
            tensor = F.linear(centre, matrix).view(*tensor.shape[:2], small, small)
        return tensor


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
'''


def to_bundle_source(plans: Mapping[str, Plan], *, about: str) -> str:
    """The text of a file with a class for each plan, tables of them by name, and `Bundle(path)`, which reads safetensors.

    Args:
        plans: of whole networks, by name.
        about: docstring of the file.
    """
    classes, calls = classes_of(list(plans.values()))
    names = {name: f"Network{i}" for i, name in enumerate(plans, 1)}
    networks = [network_class(names[name], plan, calls) for name, plan in plans.items()]
    tables = f"NETWORKS = {{{', '.join(f'{name!r}: {made}' for name, made in names.items())}}}\n"
    tables += f"RESOLUTIONS = {{{', '.join(f'{name!r}: {plan.input_shape[1]}' for name, plan in plans.items())}}}  # pixels\n"
    return "\n\n".join([opening(about), *classes, *networks, tables, READ, BUNDLE])
