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
from .parts import OTHERWISE, RANDOM, Asked, Maker, Weights, some_of, unknown

SAFE = ("model.safetensors", "pytorch_model.bin")  # names of weights in timm's repositories, the best one first
NAMED_DIGEST = re.compile(r"[-_]([0-9a-f]{8,})\.\w")  # the first digits of the sha256, in names of files as torch.hub has them
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def of_timm(asked: Asked) -> Maker:
    """`timm:NAME` or `timm:NAME.TAG`; a name alone gets timm's default tag."""
    timm = import_package("timm", "timm")
    base, _, tag = asked.name.partition(".")
    if not timm.is_model(base):
        raise ModelError(unknown(asked.text, "timm", base, timm.list_models()))
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise ModelError(f"{asked.text!r}: timm has no weights {tag!r} of {base}: {some_of(tags)}, or no tag")
    if asked.weights is not None:
        return Maker(asked.text, partial(_create, timm, asked.name, None), True, Weights())
    settings = timm.get_pretrained_cfg(asked.name)
    if settings is None or not settings.has_weights:
        raise ModelError(f"{asked.text!r}: timm has no weights of {base}: give a file of them, or --weights {RANDOM}")
    license = settings.license
    if settings.hf_hub_id is None:
        path, address = _by_address(asked, settings.url, None), settings.url
    else:
        file = settings.hf_hub_filename
        names = SAFE if file is None else (*_safe(file), file)
        path, address = _of_repository(asked, settings.hf_hub_id, names)
        license = license or _license(asked, settings.hf_hub_id, {})
    weights = Weights(path.name, sha256(path), license, address)
    return Maker(asked.text, partial(_create, timm, asked.name, path), True, weights)


def of_hub(asked: Asked) -> Maker:
    """`hf:USER/REPO` or `hf:USER/REPO@REVISION`: config.json names one of timm's architectures."""
    timm = import_package("timm", "timm")
    if not REPOSITORY.fullmatch(asked.name):
        raise ModelError(f"{asked.text!r} names no repository: give hf:USER/REPO, or hf:USER/REPO@REVISION")
    otherwise = "name its architecture by timm:NAME and give its weights with --weights FILE"
    config = from_hub(asked.text, asked.name, ("config.json",), asked.tell, otherwise=otherwise, extra="timm")
    if config is None:
        raise ModelError(f"{asked.text!r}: has no config.json, so it is not in timm's format: choose another one")
    said = read_json(config.path)
    base = said.get("architecture") if isinstance(said, Mapping) else None
    if not isinstance(base, str):
        raise ModelError(f"{asked.text!r}: its config.json names no architecture, so it is not timm's: choose another one")
    if not timm.is_model(base):
        raise ModelError(unknown(asked.text, "timm", base, timm.list_models()))
    local = f"local-dir:{config.path.parent}"
    if asked.weights is not None:
        return Maker(asked.text, partial(_create, timm, local, None), True, Weights())
    path, address = _of_repository(asked, asked.name, SAFE)
    weights = Weights(path.name, sha256(path), _license(asked, asked.name, said), address)
    return Maker(asked.text, partial(_create, timm, local, path), True, weights)


def of_torchvision(asked: Asked) -> Maker:
    """`torchvision:NAME` or `torchvision:NAME.TAG`; a name alone gets torchvision's default weights."""
    import torchvision

    base, _, tag = asked.name.partition(".")
    if base not in torchvision.models.list_models():
        raise ModelError(unknown(asked.text, "torchvision", base, torchvision.models.list_models()))
    known = torchvision.models.get_model_weights(base)
    if tag and tag != "DEFAULT" and tag not in known.__members__:
        names = list(known.__members__)
        raise ModelError(f"{asked.text!r}: torchvision has no weights {tag!r} of {base}: {some_of(names)}, or no tag")
    takes = inspect.signature(torchvision.models.get_model_builder(base)).parameters
    bare: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in takes else {}  # otherwise a backbone is downloaded

    def initial(classes: int | None) -> nn.Module:
        more = {} if classes is None else {"num_classes": classes}
        with quiet_packages():
            return torchvision.models.get_model(base, weights=None, **bare, **more)  # type: ignore[no-any-return]

    if asked.weights is not None:
        return Maker(asked.text, initial, True, Weights())
    entry = known[tag or "DEFAULT"]
    megabytes = entry.meta.get("_file_size")
    path = _by_address(asked, entry.url, None if megabytes is None else round(megabytes * 2**20))

    def trained(classes: int | None) -> nn.Module:
        read_tensors(path)  # checks that it only contains tensors, before torchvision reads it
        with quiet_packages():
            return torchvision.models.get_model(base, weights=entry)  # type: ignore[no-any-return]

    weights = Weights(path.name, sha256(path), entry.meta.get("license"), entry.url)
    return Maker(asked.text, trained, True, weights, images=_prepared(entry.transforms()))


def _prepared(transforms: Any) -> dict[str, Any]:
    """torchvision's image settings under timm's names; empty if the weights are not for classification."""
    told = vars(transforms)
    if not told.keys() >= {"crop_size", "resize_size", "interpolation", "mean", "std"}:
        return {}
    crop, short = told["crop_size"][0], told["resize_size"][0]
    return {"mean": told["mean"], "std": told["std"], "crop_pct": crop / short, "interpolation": told["interpolation"].value}


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


def _by_address(asked: Asked, url: str, size: int | None) -> Path:
    """A file in torch.hub's folder, downloaded if missing. Its name contains the first digits of its sha256."""
    name = url.rpartition("/")[2]
    digest = NAMED_DIGEST.search(name)
    if digest is None:
        raise FileError(f"{asked.text!r}: a download of {url} cannot be verified: {OTHERWISE}")
    return fetch(Remote(asked.text, mirrored(url), torch_cache() / name, digest[1], OTHERWISE, size), asked.tell)


def _of_repository(asked: Asked, repository: str, names: tuple[str, ...]) -> tuple[Path, str]:
    found = from_hub(asked.text, repository, names, asked.tell, otherwise=OTHERWISE, extra="timm")
    if found is None:
        raise ModelError(f"{asked.text!r}: {repository} has neither {' nor '.join(names)}: {OTHERWISE}")
    return found.path, found.url


def _safe(name: str) -> tuple[str, ...]:
    """The name of the same weights as safetensors, as timm expects it."""
    return (f"{name.removesuffix('.bin')}.safetensors".replace("pytorch_model.", "model."),) if name.endswith(".bin") else ()


def _license(asked: Asked, repository: str, config: Mapping[str, Any]) -> str | None:
    """The license in config.json or in the header of the repository's card; None if there is none or no card can be read."""
    nested = config.get("pretrained_cfg")
    told = nested.get("license") if isinstance(nested, Mapping) else config.get("license")
    if told is None:
        with suppress(FileError, yaml.YAMLError):
            card = from_hub(asked.text, repository, ("README.md",), asked.tell, otherwise=OTHERWISE, extra="timm")
            head = None if card is None else re.match(r"---\s*\n(.*?)\n---", read_text(card.path), re.DOTALL)
            said = yaml.safe_load(head[1]) if head else None
            told = said.get("license") if isinstance(said, Mapping) else None
    return str(told) if isinstance(told, str | list) else None
