"""`ofa elastic`: show what is elastic in your own network, without data."""

from dataclasses import dataclass

from ..arch import Arch
from ..common.advice import ofa
from ..common.arguments import takes
from ..common.progress import QUIET, Progress
from ..errors import ModelError
from ..models import RANDOM, is_library
from ..options.training import ElasticOptions
from ..resolutions import Resolution
from ..spaces.graph import graph_of
from .run_directory.info import BroughtInfo
from .training.own import bring_own


@dataclass(frozen=True)
class NetworkSize:
    """Size of a network: multiply-accumulates per image, parameters, and the image's side (or sides) in pixels."""

    macs: int
    params: int
    resolution: Resolution


@dataclass(frozen=True)
class Elastic:
    """What is elastic in a network.

    Args:
        network: the source of the network and its weights.
        summary: lines on what is elastic, what is not, and why.
        resolutions: in pixels.
        classes: number of classes; None if no classifier was found.
        networks: number of different sub-networks.
        largest: size of the largest one, which is the network itself.
        smallest: size of the smallest one.
        fixed: what is not elastic and why, one line each.
    """

    network: BroughtInfo
    summary: str
    resolutions: tuple[Resolution, ...]
    classes: int | None
    networks: int
    largest: NetworkSize
    smallest: NetworkSize
    fixed: tuple[str, ...]


@takes(ElasticOptions)
def read_elastic(options: ElasticOptions, *, progress: Progress = QUIET) -> Elastic:
    """Read a network and report what `onceforall.elastic` makes of it."""
    given = RANDOM if options.weights is None and is_library(options.source) else options.weights
    own = bring_own(
        options.source, weights=given, choices=options.space, channels=options.channels, seed=options.seed, progress=progress
    )
    if own.supernet.space.family != "graph":
        name = own.brought.source
        raise ModelError(
            f"{name} is elastic already, so there is nothing to read: {ofa('import', name, '--out', 'RUN')} makes a run of it"
        )
    found, classes = own.supernet.space, own.supernet.num_classes
    graph = graph_of(found)

    def size(arch: Arch) -> NetworkSize:
        plan = found.lower(arch, classes)
        return NetworkSize(plan.macs, plan.params, arch.resolution)

    return Elastic(
        own.info(classifier=not own.brought.unfilled),
        found.summary(),
        found.resolutions,
        classes if graph.classes >= 0 else None,
        found.count(),
        size(found.largest()),
        size(found.smallest()),
        graph.fixed,
    )
