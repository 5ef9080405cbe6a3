"""Write several networks on shared weights as a Python file that only needs torch.

Its `Bundle` works like `nn.shared`: the same names, the same views, the same smaller kernels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple

from ..plan import Plan
from ..resolutions import of_sides
from .call_source import NEEDS as NEEDS_OF_CALLS
from .call_source import PART, functions_of, network_of_calls
from .calls import STATISTICS
from .shared import parts_of
from .source import READ, classes_of, network_class, of_calls, opening

NEEDS = "Python 3.8 or later with torch 2.1 or later"

BUNDLE = '''class Bundle:
    """Networks in eval mode on the tensors of one file: `Bundle("weights.safetensors").network(name)`, see NETWORKS for names.

    Weights are views of the tensors in the file, which all networks share: do not write to them. Only smaller kernels and position
    embeddings of other resolutions are computed, when a network is first requested. There is no active network: threads may run
    several at once.
    """

    def __init__(self, path: str | Path) -> None:
        self.tensors = {name: _channels_last(tensor) for name, tensor in read(path).items()}
        self.networks: dict[str, nn.Module] = {}

    def network(self, name: str) -> nn.Module:
        """A network for images of RESOLUTIONS[name] pixels."""
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
        if key.endswith(("running_mean", "running_var")):  # each network has its own BatchNorm statistics
            return self.tensors[f"{name}/{key}"]
        tensor = self.tensors[key]
@CUT@        if tensor.ndim < 4:
            return tensor[tuple(map(slice, shape))]
        tensor = tensor[: shape[0], : shape[1]]  # the first channels
        while tensor.shape[-1] > shape[-1]:  # the center of the kernels, times a learned matrix
            big = tensor.shape[-1]
            (matrix,) = (value for at, value in self.tensors.items() if at.startswith(f"{key.removesuffix('weight')}{big}to"))
            small = round(len(matrix) ** 0.5)
            edge = (big - small) // 2
            center = tensor[:, :, edge : edge + small, edge : edge + small].flatten(2)
            tensor = F.linear(center, matrix).view(*tensor.shape[:2], small, small)
        return tensor


@CUTTING@def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
'''


CUT = """        if (name, key) in PARTS:
            return _part(tensor, key, *PARTS[name, key], self.tensors)
"""
CUTTING = '''def _part(tensor: Tensor, key: str, cut: tuple, kernels: tuple, grid: tuple, tensors: dict) -> Tensor:
    """Select ranges of entries, reduce kernels step by step, and interpolate position embeddings."""
    for dim, ranges in enumerate(cut):
        if ranges is not None:
            parts = [tensor.narrow(dim, start, stop - start) for start, stop in ranges]
            tensor = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    for big, small in zip(kernels, kernels[1:]):
        edge = (big - small) // 2
        center = tensor[:, :, edge : edge + small, edge : edge + small].flatten(2)
        matrix = tensors[f"{key[:-6] if key.endswith('weight') else key}{big}to{small}_matrix"]
        tensor = F.linear(center, matrix).view(*tensor.shape[:2], small, small)
    if grid:
        dim, flat, prefix, before, after, antialias, align_corners = grid
        first, tensor = tensor.narrow(dim, 0, prefix), tensor.narrow(dim, prefix, tensor.shape[dim] - prefix)
        tensor = (tensor.unflatten(dim, before) if flat else tensor).movedim((dim, dim + 1), (-2, -1))
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        wide = F.interpolate(wide, after, mode="bicubic", align_corners=align_corners, antialias=antialias)
        tensor = wide.to(tensor.dtype).movedim((-2, -1), (dim, dim + 1))
        tensor = torch.cat([first, tensor.flatten(dim, dim + 1)], dim) if flat else tensor
    return tensor


'''


def bundle_needs(plans: Iterable[Plan]) -> str:
    """Requirements of the file, as text."""
    return NEEDS_OF_CALLS if any(map(of_calls, plans)) else NEEDS


def to_bundle_source(plans: Mapping[str, Plan], *, about: str) -> str:
    """Source of a file with a class per plan, tables of networks and resolutions, and `Bundle(path)`, which reads safetensors.

    Raises:
        DeviceError: an operation of a network cannot be written as Python.
    """
    names = {name: f"Network{i}" for i, name in enumerate(plans, 1)}
    parts = ""
    if any(map(of_calls, plans.values())):
        classes, lines = functions_of(list(plans.values()))
        classes = [PART, *classes]
        networks = [network_of_calls(names[name], plan, own) for (name, plan), own in zip(plans.items(), lines, strict=True)]
        parts = _parts(plans)
    else:
        classes, calls = classes_of(list(plans.values()))
        networks = [network_class(names[name], plan, calls) for name, plan in plans.items()]
    tables = f"NETWORKS = {{{', '.join(f'{name!r}: {made}' for name, made in names.items())}}}\n"
    sizes = ", ".join(f"{name!r}: {of_sides(*plan.input_shape[1:])!r}" for name, plan in plans.items())
    tables += f"RESOLUTIONS = {{{sizes}}}  # pixels\n"
    bundle = BUNDLE.replace("@CUT@", CUT if parts else "").replace("@CUTTING@", CUTTING if parts else "")
    return "\n\n".join([opening(about), *classes, *networks, tables + parts, READ, bundle])


def _parts(plans: Mapping[str, Plan]) -> str:
    """The table of tensors that networks only use in part."""
    lines = ["PARTS = {  # (network, tensor): ranges of entries of each dimension, kernel sizes in steps, position map"]
    for name, plan in plans.items():
        for tensor, part in parts_of(plan).items():
            whole = all(ranges is None for ranges in part.cut) and not part.kernels and not part.grid
            if not whole and not tensor.endswith(STATISTICS):
                grid = astuple(part.grid) if part.grid else ()
                lines.append(f"    ({name!r}, {tensor!r}): ({part.cut!r}, {part.kernels!r}, {grid!r}),")
    return "\n".join([*lines, "}", ""])
