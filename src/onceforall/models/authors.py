"""`ofa:NAME`: load one of the Once-for-All authors' four supernets and 50 specialized networks."""

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
from .parts import OTHERWISE, RANDOM, Maker, Request, Weights

CLASSES = 1000  # ImageNet
FOLDER = "ofa"  # inside torch.hub's folder


def of_authors(request: Request) -> Maker:
    """A supernet as a `Supernet`, a specialized network as a plain one."""
    name = published_name(request.name)
    source = f"ofa:{name}"
    if name not in NAMES:
        return _specialized(request, name, source)
    if (given := request.file) is not None:
        return Maker(source, lambda classes: load_supernet(given, name), False, weights_of(given), True, None)
    if request.weights is not None:
        return Maker(source, lambda classes: Supernet(published_space(name), CLASSES), False, Weights(), pixels=None)
    if name in ON_HUB:
        repository, file = ON_HUB[name]
        found = from_hub(request.text, repository, (file,), request.on_download, otherwise=OTHERWISE)
        if found is None:
            raise FileError(f"{request.text!r}: {repository} on the Hub no longer has {file}: {OTHERWISE}")
        path, address = found.path, found.url
    else:
        (wanted,) = published_files(name)
        path, address = _fetched(request, wanted, OTHERWISE), wanted.url
    return Maker(
        source, lambda classes: load_supernet(path, name), False, Weights(path.name, sha256(path), LICENSE, address), pixels=None
    )


def _specialized(request: Request, name: str, source: str) -> Maker:
    """A specialized network. Its configuration is read next to the given file of weights, or else from the cache."""
    init, *configurations = published_files(name)
    folder = torch_cache() / FOLDER / Path(init.path).parent
    if request.file is not None and (request.file.parent / "net.config").exists():
        folder = request.file.parent
    else:
        for wanted in configurations:
            _fetched(request, wanted, "put net.config, run.config and init into one folder and give --weights FOLDER/init")
    weights, path = Weights(), request.file
    if path is not None:
        weights = weights_of(path)
    elif request.weights is None:
        path = _fetched(request, init, OTHERWISE)
        weights = Weights(path.name, sha256(path), LICENSE, init.url)
    read = specialized(folder, weights=path or RANDOM)
    return Maker(source, lambda classes: read.model, False, weights, True, read.resolution)


def _fetched(request: Request, wanted: PublishedFile, otherwise: str) -> Path:
    place = torch_cache() / FOLDER / wanted.path
    return fetch(Remote(request.text, mirrored(wanted.url), place, wanted.git, otherwise), request.on_download)
