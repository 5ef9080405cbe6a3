"""Networks of timm, torchvision, and repositories in timm's format on the Hugging Face Hub, with their trained weights."""

import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from ..common.fetch import Remote, fetch, from_hub, mirrored
from ..common.files import read_json, read_text, sha256
from ..common.packages import import_package, quiet_packages
from ..errors import FileError, ModelError
from ..nn.tensor_files import read_tensors
from .parts import OTHERWISE, RANDOM, Maker, Request, Weights, some_of, unknown

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's repositories, the preferred one first
NAMED_DIGEST = re.compile(r"[-_]([0-9a-f]{8,})\.\w")  # torch.hub's file names contain the first digits of the sha256
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def of_timm(request: Request) -> Maker:
    """`timm:NAME` or `timm:NAME.TAG`; a name alone gets timm's default tag."""
    timm = import_package("timm", "timm")
    base, _, tag = request.name.partition(".")
    if not timm.is_model(base):
        raise ModelError(unknown(request.text, "timm", base, timm.list_models()))
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise ModelError(f"{request.text!r}: timm has no weights {tag!r} of {base}: choose from {some_of(tags)}, or omit the tag")
    if request.weights is not None:
        return Maker(request.text, partial(_create, timm, request.name, None), True, Weights())
    settings = timm.get_pretrained_cfg(request.name)
    if settings is None or not settings.has_weights:
        raise ModelError(f"{request.text!r}: timm has no weights of {base}: give --weights FILE or --weights {RANDOM}")
    license = settings.license
    if settings.hf_hub_id is None:
        path, address = _by_address(request, settings.url, None), settings.url
    else:
        file = settings.hf_hub_filename
        names = WEIGHT_FILES if file is None else (*_safe(file), file)
        path, address = _of_repository(request, settings.hf_hub_id, names)
        license = license or _license(request, settings.hf_hub_id, {})
    weights = Weights(path.name, sha256(path), license, address)
    return Maker(request.text, partial(_create, timm, request.name, path), True, weights)


def of_hub(request: Request) -> Maker:
    """`hf:USER/REPO` or `hf:USER/REPO@REVISION`: config.json names one of timm's architectures."""
    timm = import_package("timm", "timm")
    if not REPOSITORY.fullmatch(request.name):
        raise ModelError(f"{request.text!r} names no repository: give hf:USER/REPO, or hf:USER/REPO@REVISION")
    otherwise = "name its architecture by timm:NAME and give its weights with --weights FILE"
    config = from_hub(request.text, request.name, ("config.json",), request.on_download, otherwise=otherwise, extra="timm")
    if config is None:
        raise ModelError(f"{request.text!r}: has no config.json, so it is not in timm's format: choose another one")
    settings = read_json(config.path)
    base = settings.get("architecture") if isinstance(settings, Mapping) else None
    if not isinstance(base, str):
        raise ModelError(
            f"{request.text!r}: its config.json names no architecture, so it is not in timm's format: choose another one"
        )
    if not timm.is_model(base):
        raise ModelError(unknown(request.text, "timm", base, timm.list_models()))
    local = f"local-dir:{config.path.parent}"
    if request.weights is not None:
        return Maker(request.text, partial(_create, timm, local, None), True, Weights())
    path, address = _of_repository(request, request.name, WEIGHT_FILES)
    weights = Weights(path.name, sha256(path), _license(request, request.name, settings), address)
    return Maker(request.text, partial(_create, timm, local, path), True, weights)


def of_torchvision(request: Request) -> Maker:
    """`torchvision:NAME` or `torchvision:NAME.TAG`; a name alone gets torchvision's default weights."""
    import torchvision

    base, _, tag = request.name.partition(".")
    if base not in torchvision.models.list_models():
        raise ModelError(unknown(request.text, "torchvision", base, torchvision.models.list_models()))
    known = torchvision.models.get_model_weights(base)
    if tag and tag != "DEFAULT" and tag not in known.__members__:
        names = list(known.__members__)
        raise ModelError(
            f"{request.text!r}: torchvision has no weights {tag!r} of {base}: choose from {some_of(names)}, or omit the tag"
        )
    takes = inspect.signature(torchvision.models.get_model_builder(base)).parameters
    bare: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in takes else {}  # otherwise a backbone is downloaded

    def initial(classes: int | None) -> nn.Module:
        more = {} if classes is None else {"num_classes": classes}
        with quiet_packages():
            return torchvision.models.get_model(base, weights=None, **bare, **more)  # type: ignore[no-any-return]

    if request.weights is not None:
        return Maker(request.text, initial, True, Weights())
    entry = known[tag or "DEFAULT"]
    megabytes = entry.meta.get("_file_size")
    path = _by_address(request, entry.url, None if megabytes is None else round(megabytes * 2**20))

    def trained(classes: int | None) -> nn.Module:
        read_tensors(path)  # checks that it contains only tensors, before torchvision reads it
        with quiet_packages():
            return torchvision.models.get_model(base, weights=entry)  # type: ignore[no-any-return]

    weights = Weights(path.name, sha256(path), entry.meta.get("license"), entry.url)
    return Maker(request.text, trained, True, weights, images=_preprocessing(entry.transforms()))


def _preprocessing(transforms: Any) -> dict[str, Any]:
    """torchvision's preprocessing under timm's names; empty if the weights are not for classification."""
    own = vars(transforms)
    if not own.keys() >= {"crop_size", "resize_size", "interpolation", "mean", "std"}:
        return {}
    crop, short = own["crop_size"][0], own["resize_size"][0]
    return {"mean": own["mean"], "std": own["std"], "crop_pct": crop / short, "interpolation": own["interpolation"].value}


def torch_cache() -> Path:
    """torch.hub's download folder."""
    return Path(torch.hub.get_dir(), "checkpoints")


def _create(timm: Any, name: str, path: Path | None = None, classes: int | None = None) -> nn.Module:
    """Create a network of timm, with the weights of a file or initial ones."""
    more: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if path is not None and path.suffix != ".safetensors":
        read_tensors(path)  # timm also rejects anything but tensors, but suggests switching the check off
    if path is not None:  # timm renames tensors as in its own downloads
        more["pretrained_cfg_overlay"] = {"file": str(path), "source": "", "custom_load": False}
    with quiet_packages():
        return timm.create_model(name, pretrained=path is not None, **more)  # type: ignore[no-any-return]


def _by_address(request: Request, url: str, size: int | None) -> Path:
    """A file in torch.hub's folder, downloaded if missing and verified by the digits of the sha256 in its name."""
    name = url.rpartition("/")[2]
    digest = NAMED_DIGEST.search(name)
    if digest is None:
        raise FileError(f"{request.text!r}: a download of {url} cannot be verified: {OTHERWISE}")
    return fetch(Remote(request.text, mirrored(url), torch_cache() / name, digest[1], OTHERWISE, size), request.on_download)


def _of_repository(request: Request, repository: str, names: tuple[str, ...]) -> tuple[Path, str]:
    found = from_hub(request.text, repository, names, request.on_download, otherwise=OTHERWISE, extra="timm")
    if found is None:
        raise ModelError(f"{request.text!r}: {repository} has neither {' nor '.join(names)}: {OTHERWISE}")
    return found.path, found.url


def _safe(name: str) -> tuple[str, ...]:
    """The name under which timm expects the same weights as safetensors."""
    return (f"{name.removesuffix('.bin')}.safetensors".replace("pytorch_model.", "model."),) if name.endswith(".bin") else ()


def _license(request: Request, repository: str, config: Mapping[str, Any]) -> str | None:
    """The license in config.json or in the header of the repository's model card; None if neither names one."""
    nested = config.get("pretrained_cfg")
    license = nested.get("license") if isinstance(nested, Mapping) else config.get("license")
    if license is None:
        with suppress(FileError, yaml.YAMLError):
            card = from_hub(request.text, repository, ("README.md",), request.on_download, otherwise=OTHERWISE, extra="timm")
            head = None if card is None else re.match(r"---\s*\n(.*?)\n---", read_text(card.path), re.DOTALL)
            header = yaml.safe_load(head[1]) if head else None
            license = header.get("license") if isinstance(header, Mapping) else None
    return str(license) if isinstance(license, str | list) else None
