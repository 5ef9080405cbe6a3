"""Recalibrate a network's BatchNorm statistics and evaluate it.

A sub-network's statistics differ from the supernet's, so evaluating always means: extract, recalibrate, evaluate.
`evaluate_network` only accepts a `Calibrated` network, so the middle step cannot be forgotten.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .errors import DataError, StatisticsError
from .scores import balanced_of, macro_f1_of, told_of
from .tasks.label_scores import mean_average_precision

Batch = tuple[Tensor, Tensor]  # images (n, c, height, width) or logits (n, classes), float32; labels as a `task.Task` has them


@dataclass(frozen=True)
class Calibrated:
    """A network in eval mode whose BatchNorm statistics were measured on `images` images with its current weights.

    `shape` is the shape of one image: statistics are valid for one resolution. `version` shows whether a weight or statistic was
    modified or replaced since.
    """

    network: nn.Module
    images: int
    shape: tuple[int, ...]
    version: int


@dataclass(frozen=True)
class Statistics:
    """BatchNorm statistics to continue from: means and variances by their names in the network's state dict, measured on `images`
    images of shape `shape`."""

    tensors: Mapping[str, Tensor]
    images: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Accuracy:
    """Result of `evaluate_network` or `tally`. top1 and top5 are fractions in [0, 1], loss is mean cross-entropy in nats.

    `balanced` is the mean recall over classes, `macro_f1` the mean F1 (see `scores.Confusion`); both are None in older files.
    For images with several labels, `map` is the mean average precision, and top-1 and top-5 are the shares of images for which the
    likeliest label, or one of the five likeliest, is correct. `map` is None where an image has one class.
    """

    top1: float
    top5: float
    loss: float
    images: int
    balanced: float | None = None
    macro_f1: float | None = None
    map: float | None = None

    @property
    def told(self) -> tuple[str, float]:
        """Name and value of the reported score, whatever the run's metric: top-1, or mAP where images may have several labels."""
        return told_of(self.top1, self.map)

    def score(self, metric: str) -> float:
        """The score by the metric's name."""
        found = {"top1": self.top1, "balanced": self.balanced, "macro_f1": self.macro_f1, "map": self.map}[metric]
        assert found is not None, "only older files lack it, and their metric is top-1"
        return found


def recalibrate(network: nn.Module, batches: Iterable[Tensor], *, begun: Statistics | None = None) -> Calibrated:
    """Replace every BatchNorm's running statistics in place with averages over these batches.

    A network without BatchNorm has nothing to measure: only the first batch is read, for the image shape, and there may be none.

    Args:
        network: a plain network, such as `Supernet.extract` gives, on any device.
        batches: preprocessed training images (n, c, height, width), at least 2 per batch. Batches are weighted by their number of
            images.
        begun: statistics to continue from, measured with the same weights on other images, which then count too.

    Raises:
        StatisticsError: no batches at all, a batch of one image, images of several resolutions, statistics of another
            network, or weights or statistics that are not finite.
    """
    norms = list(norms_of(network).values())
    network.eval()
    if not norms:
        first = next(iter(batches), None)
        require_finite(network)
        return Calibrated(network, 0, () if first is None else tuple(first.shape[1:]), _version(network))
    momenta = [norm.momentum for norm in norms]
    device = _device(network)
    images, shape = (0, ()) if begun is None else (begun.images, begun.shape)
    running = {name: value for name, value in network.named_buffers() if "running_" in name}
    if begun is not None and {n: v.shape for n, v in running.items()} != {n: v.shape for n, v in begun.tensors.items()}:
        raise StatisticsError("the statistics to continue from belong to another network: measure them again")
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        if begun is not None:
            for name, value in running.items():
                value.copy_(begun.tensors[name])
        with torch.no_grad():
            for batch, momentum in with_momentum(batches, begun):
                images += len(batch)
                shape = tuple(batch.shape[1:])
                for norm in norms:
                    norm.momentum = momentum
                network(batch.to(device))
    finally:
        for norm, before in zip(norms, momenta, strict=True):
            norm.momentum = before
        network.eval()
    require_finite(network)
    return Calibrated(network, images, shape, _version(network))


def norms_of(network: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """All batch norms whose running statistics can be measured, by name.

    Raises:
        StatisticsError: the network calls batch norm as a function, outside any torch layer.
    """
    if isinstance(network, fx.GraphModule):
        for node in network.graph.nodes:
            if node.op == "call_function" and node.target is torch.batch_norm and isinstance(node.args[5], fx.Node):
                raise StatisticsError(
                    f"the statistics of {node.args[3]} cannot be measured: the model calls batch norm as a function there: use a "
                    "torch.nn.BatchNorm2d layer, in the same way everywhere"
                )
    kinds = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds) and layer.track_running_stats}


def with_momentum(batches: Iterable[Tensor], begun: Statistics | None = None) -> Iterator[tuple[Tensor, float]]:
    """Yield each batch with the momentum that makes BatchNorm's running average the mean over all images so far.

    Raises:
        StatisticsError: no batches at all, a batch of one image, or images of several resolutions.
    """
    images, shapes = (0, set[tuple[int, ...]]()) if begun is None else (begun.images, {begun.shape})
    for batch in batches:
        if len(batch) < 2:
            raise StatisticsError("recalibration got a batch of 1 image: batch statistics need at least 2")
        images += len(batch)
        shapes.add(tuple(batch.shape[1:]))
        if len(shapes) > 1:
            raise StatisticsError(f"recalibration got images of shapes {sorted(shapes)}: statistics hold for one resolution")
        yield batch, len(batch) / images
    if images == 0:
        raise StatisticsError("recalibration got no batches: give at least one batch of training images")


def as_it_was(network: nn.Module) -> Calibrated:
    """A network with the statistics that were measured before it was written to a file."""
    return Calibrated(network.eval(), 0, (), _version(network))


def require_finite(network: nn.Module) -> None:
    """Check that all weights and statistics are finite.

    Raises:
        StatisticsError: names the first one that is not.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not tensor.isfinite().all():
            raise StatisticsError(f"{name} is not finite after recalibration: the weights have diverged")


def evaluate_network(calibrated: Calibrated, batches: Iterable[Batch], counted: "Tally | LabelTally | None" = None) -> Accuracy:
    """Accuracy of a calibrated network; `counted` is the task's tally, by default for images of one class.

    Raises:
        StatisticsError: the network was not recalibrated, or was changed or put back to train mode since, or
            the images have another resolution.
        DataError: no images.
    """
    return evaluate_each(calibrated, batches, counted=counted)[0]


def evaluate_each(
    calibrated: Calibrated,
    batches: Iterable[Batch],
    *,
    on_logits: Callable[[Tensor, Tensor], None] = lambda logits, labels: None,
    counted: "Tally | LabelTally | None" = None,
) -> tuple[Accuracy, Tensor]:
    """Like `evaluate_network`, and also return which images are right, bool (n,), to compare networks image by image.

    `on_logits` is called with each batch's logits (n, classes) and labels.
    """
    if not isinstance(calibrated, Calibrated):
        raise StatisticsError(
            f"evaluation takes the result of recalibrate, not a {type(calibrated).__name__}: recalibrate the network first"
        )
    network = calibrated.network
    if any(module.training for module in network.modules()) or _version(network) != calibrated.version:
        raise StatisticsError("the network was changed or put in train mode after its recalibration: recalibrate it again")
    device = _device(network)
    counted, right = Tally() if counted is None else counted, list[Tensor]()
    with torch.no_grad():
        for x, labels in batches:
            logits, wanted = network(same_shape(x, calibrated.shape).to(device)), labels.to(device)
            right.append(counted.right(counted.add(logits, wanted), wanted))
            on_logits(logits, wanted)
    return counted.accuracy(), torch.cat(right).cpu()


def tally(batches: Iterable[Batch], counted: "Tally | LabelTally | None" = None) -> Accuracy:
    """Accuracy from batches of logits (n, classes) and labels, whatever computed the logits; see `evaluate_network`.

    Raises:
        DataError: no images.
    """
    counted = Tally() if counted is None else counted
    for logits, labels in batches:
        counted.add(logits, labels)
    return counted.accuracy()


class Tally:
    """Running counts of one network, for images of one class; `tally` does a whole evaluation."""

    def __init__(self) -> None:
        self.hits5, self.loss = 0, 0.0
        self.counts: Tensor | None = None  # (3, classes): images of each class, correct ones, predicted ones
        self.sure: Tensor | None = None  # (classes,): the sum of the right class's probability over the images of each

    def add(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count a batch of logits (n, classes) and labels (n,); return the predicted classes (n,)."""
        ranked = logits.topk(min(5, logits.shape[1]), 1).indices
        self.hits5 += int((ranked == labels[:, None]).any(1).sum())
        self.loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        self.count(ranked[:, 0], labels, logits)
        return ranked[:, 0]

    @staticmethod
    def right(predicted: Tensor, labels: Tensor) -> Tensor:
        """Which predictions are right, (n,)."""
        return predicted == labels

    def count(self, predicted: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Count predicted classes (n,) without their loss and runners-up."""
        parts = labels, labels[predicted == labels], predicted
        counts = torch.stack([torch.bincount(part, minlength=logits.shape[1]) for part in parts])
        self.counts = counts if self.counts is None else self.counts + counts
        sure = (logits.gather(1, labels[:, None])[:, 0] - logits.logsumexp(1)).double().exp()
        sums = torch.bincount(labels, sure, minlength=logits.shape[1])
        self.sure = sums if self.sure is None else self.sure + sums

    def effective_images(self) -> int:
        """Number of images, in classes of equal size, that give top-1 as precisely as these give balanced accuracy: C² / Σ 1/n."""
        assert self.counts is not None
        images = self.counts[0][self.counts[0] > 0].double()
        return max(1, round(len(images) ** 2 / float((1 / images).sum())))

    def soft(self, metric: str) -> float | None:
        """Mean probability of the right class; for other metrics than top-1, its mean over each class, averaged over classes."""
        assert self.counts is not None
        assert self.sure is not None
        images = self.counts[0]
        return float(self.sure.sum() / images.sum() if metric == "top1" else (self.sure / images)[images > 0].mean())

    def accuracy(self) -> Accuracy:
        """The accuracy over all batches.

        Raises:
            DataError: no images.
        """
        images, right, predicted = (torch.zeros(3, 0, dtype=torch.int64) if self.counts is None else self.counts).cpu().numpy()
        total = int(images.sum())
        if not total:
            raise DataError("there are no images to evaluate on")
        scores = balanced_of(images, right), macro_f1_of(images, right, predicted)
        return Accuracy(int(right.sum()) / total, self.hits5 / total, self.loss / total, total, *scores)


class LabelTally:
    """Like `Tally`, for images with any number of labels, (n, classes) of 0 and 1. Keeps all logits, as ranking needs them."""

    def __init__(self) -> None:
        self.hits1, self.hits5, self.loss = 0, 0, 0.0
        self.logits, self.labels = list[Tensor](), list[Tensor]()

    def add(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count a batch; return the logit of each label, (n, classes)."""
        ranked = labels.gather(1, logits.topk(min(5, logits.shape[1]), 1).indices) > 0
        self.hits1 += int(self.right(logits, labels).sum())
        self.hits5 += int(ranked.any(1).sum())
        self.loss += float(F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum"))
        self.count(logits, labels, logits)
        return logits

    @staticmethod
    def right(scores: Tensor, labels: Tensor) -> Tensor:
        """For which images the likeliest label is correct, (n,)."""
        return labels.gather(1, scores.argmax(1, keepdim=True))[:, 0] > 0

    def count(self, scores: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Count logits of labels (n, classes) for the mean average precision only."""
        self.logits.append(logits.float().cpu())
        self.labels.append(labels.cpu())

    @staticmethod
    def soft(metric: str) -> None:
        """None: mAP has no such score."""

    def effective_images(self) -> int:
        """Like `Tally.effective_images`, from the images with each label: a rough guide to how much mAP varies by chance.

        Never more than the number of images, since labels that occur together share images.
        """
        labels = torch.cat(self.labels)
        counts = labels.sum(0).double()
        counts = counts[counts > 0]
        return min(len(labels), max(1, round(len(counts) ** 2 / float((1 / counts).sum())))) if len(counts) else 1

    def accuracy(self) -> Accuracy:
        """The accuracy over all batches.

        Raises:
            DataError: no images.
        """
        total = sum(map(len, self.labels))
        if not total:
            raise DataError("there are no images to evaluate on")
        logits, labels = torch.cat(self.logits).numpy(), torch.cat(self.labels).numpy()
        found = mean_average_precision(labels, logits)
        return Accuracy(self.hits1 / total, self.hits5 / total, self.loss / total, total, map=found)


def _device(network: nn.Module) -> torch.device:
    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))


def same_shape(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the images after checking that they have the shape at which the statistics were measured; () allows any shape.

    Raises:
        StatisticsError: another resolution.
    """
    if shape and tuple(images.shape[1:]) != shape:
        raise StatisticsError(
            f"the images have shape {tuple(images.shape[1:])}, the BatchNorm statistics were measured at {shape}: recalibrate at "
            "the resolution of the evaluation"
        )
    return images


def _version(network: nn.Module) -> int:
    """A number that changes when any parameter or buffer is modified or replaced."""
    return hash(tuple((tensor.data_ptr(), tensor._version) for tensor in (*network.parameters(), *network.buffers())))
