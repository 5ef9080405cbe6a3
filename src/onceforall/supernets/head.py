"""Fit a new classifier to the features of a trained network by regression, without changing the rest of the network."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..calibrate import recalibrate
from .supernet import Supernet

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # factors of the squared weights, for features of unit variance
FOLDS = 5  # one is held out to select the penalty
ITERATIONS = 60

Loss = Callable[[Tensor, Tensor], Tensor]


def fit_classifier(
    supernet: Supernet,
    batches: Iterable[tuple[Tensor, Tensor]],
    calibration: Iterable[Tensor] | None = None,
    *,
    loss: Loss = F.cross_entropy,
) -> bool:
    """Fit the classifier of the largest network, a linear layer or pointwise convolution, in place.

    This is a regression, by default multinomial logistic, on the network's features in eval mode. Its penalty is chosen on a fifth
    of the images, which is held out. It takes a forward pass over all images and a few seconds.

    Args:
        supernet: with running statistics; its classifier is overwritten.
        batches: images (n, c, r, r), preprocessed for evaluation, in random order, and labels (n,) int64.
        calibration: images to recalibrate batch norms on first, as for every exported network; with other statistics, the features
            would not match the classifier.
        loss: mean loss over images, from logits (n, classes) and labels.

    Returns:
        False if the network does not end in such a layer; it is then unchanged.
    """
    graph = supernet.extract(supernet.space.largest()).eval()
    name = _classifier(graph, supernet.num_classes)
    if name is None:
        return False
    network = graph if calibration is None else recalibrate(graph, calibration).network
    layer = network.get_submodule(name)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].flatten(1).cpu()))
    targets = []
    with torch.no_grad():
        for images, labels in batches:
            network(images)
            targets.append(labels.cpu())
    hook.remove()
    own_bias = layer.bias is not None
    weight, bias = _regression(torch.cat(seen), torch.cat(targets), supernet.num_classes, bias=own_bias, loss=loss)
    with torch.no_grad():
        own = dict(supernet.named_parameters())
        own[f"{name}.weight"].copy_(weight.view(own[f"{name}.weight"].shape))
        if bias is not None:
            own[f"{name}.bias"].copy_(bias)
    return True


def _classifier(network: fx.GraphModule, classes: int) -> str | None:
    """Name of the last layer, if the network returns its outputs and it is a linear function of one vector per image."""
    (output,) = (node for node in network.graph.nodes if node.op == "output")
    node = output.args[0]
    while isinstance(node, fx.Node) and node.op != "call_module":
        before = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if node.op == "placeholder" or len(before) != 1 or not _is_view(node):
            return None
        (node,) = before
    if not isinstance(node, fx.Node):
        return None
    layer = network.get_submodule(str(node.target))
    pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    if not (isinstance(layer, nn.Linear) or pointwise) or len(layer.get_parameter("weight")) != classes:
        return None
    return str(node.target)


def _is_view(node: fx.Node) -> bool:
    """Whether a node changes nothing but the shape."""
    name = node.target if isinstance(node.target, str) else node.target.__name__  # overloads are named "flatten.using_ints"
    return name.partition(".")[0] in ("reshape", "view", "flatten", "squeeze")


def _regression(x: Tensor, y: Tensor, classes: int, *, bias: bool, loss: Loss) -> tuple[Tensor, Tensor | None]:
    """Weights (classes, features) and bias (classes,) for the best penalty, in terms of the original features."""
    mean = x.mean(0) if bias else torch.zeros_like(x[0])
    scale = (x - mean).square().mean(0).sqrt().clamp_min(1e-6 * float(x.abs().max()) + 1e-12)
    z = ((x - mean) / scale).double()
    apart = torch.arange(len(z)) % FOLDS == 0  # images come shuffled
    losses = []
    if len(z) >= 2 * FOLDS:
        for penalty in PENALTIES:
            weight, constant = _fit(z[~apart], y[~apart], classes, penalty, bias=bias, loss_of=loss)
            losses.append(float(loss(z[apart] @ weight.T + constant, y[apart])))
    best = PENALTIES[min(range(len(losses)), key=losses.__getitem__)] if losses else PENALTIES[-1]
    weight, constant = _fit(z, y, classes, best, bias=bias, loss_of=loss)
    weight = weight / scale
    return weight, constant - weight @ mean.double() if bias else None


def _fit(z: Tensor, y: Tensor, classes: int, penalty: float, *, bias: bool, loss_of: Loss) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(classes, z.shape[1], dtype=z.dtype, requires_grad=True)
    constant = torch.zeros(classes, dtype=z.dtype, requires_grad=bias)
    solver = torch.optim.LBFGS([weight, constant] if bias else [weight], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = loss_of(z @ weight.T + constant, y) + penalty / z.shape[1] * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), constant.detach()
