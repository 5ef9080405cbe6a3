"""`ofa:NAME`: the Once-for-All authors' four supernets and 50 specialized networks."""

from pathlib import Path

from ..common.fetch import Remote, fetch, from_hub, mirrored
from ..common.files import sha256
from ..errors import FileError
from ..published import (
    LICENSE,
    NAMES,
    ON_HUB,
    PublishedFile,
    load_supernet,
    published_files,
    published_name,
    published_space,
    specialized,
)
from ..supernets.supernet import Supernet
from .fill import weights_of
from .libraries import torch_cache
from .parts import OTHERWISE, RANDOM, Asked, Maker, Weights

CLASSES = 1000  # all are for ImageNet
FOLDER = "ofa"  # inside torch.hub's folder


def of_authors(asked: Asked) -> Maker:
    """A supernet as a `Supernet`, a specialized network as a plain one."""
    name = published_name(asked.name)
    source = f"ofa:{name}"
    if name not in NAMES:
        return _specialized(asked, name, source)
    if (given := asked.file) is not None:
        return Maker(source, lambda classes: load_supernet(given, name), False, weights_of(given), True, None)
    if asked.weights is not None:
        return Maker(source, lambda classes: Supernet(published_space(name), CLASSES), False, Weights(), pixels=None)
    if name in ON_HUB:
        repository, file = ON_HUB[name]
        found = from_hub(asked.text, repository, (file,), asked.tell, otherwise=OTHERWISE)
        if found is None:
            raise FileError(f"{asked.text!r}: {repository} on the Hub no longer has {file}: {OTHERWISE}")
        path, address = found.path, found.url
    else:
        (wanted,) = published_files(name)
        path, address = _fetched(asked, wanted, OTHERWISE), wanted.url
    return Maker(
        source, lambda classes: load_supernet(path, name), False, Weights(path.name, sha256(path), LICENSE, address), pixels=None
    )


def _specialized(asked: Asked, name: str, source: str) -> Maker:
    """A specialized network. Its configuration is next to the given file of weights, or else in the cache."""
    init, *configurations = published_files(name)
    folder = torch_cache() / FOLDER / Path(init.path).parent
    if asked.file is not None and (asked.file.parent / "net.config").exists():
        folder = asked.file.parent
    else:
        for wanted in configurations:
            _fetched(asked, wanted, "get net.config, run.config and init elsewhere into one folder and give --weights FOLDER/init")
    weights, path = Weights(), asked.file
    if path is not None:
        weights = weights_of(path)
    elif asked.weights is None:
        path = _fetched(asked, init, OTHERWISE)
        weights = Weights(path.name, sha256(path), LICENSE, init.url)
    read = specialized(folder, weights=path or RANDOM)
    return Maker(source, lambda classes: read.model, False, weights, True, read.resolution)


def _fetched(asked: Asked, wanted: PublishedFile, otherwise: str) -> Path:
    place = torch_cache() / FOLDER / wanted.path
    return fetch(Remote(asked.text, mirrored(wanted.url), place, wanted.git, otherwise), asked.tell)
