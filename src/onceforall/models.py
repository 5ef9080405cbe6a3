"""Networks that someone brings, by a text: `timm:NAME`, `torchvision:NAME` or `FILE.py:FUNCTION`, with weights of a file or not.

`FILE.py:FUNCTION` runs the code in that file: it is the user's own. Files of weights are read without running what is in them.
"""

import importlib.util
import inspect
import sys
import traceback
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from difflib import get_close_matches
from hashlib import sha256 as hasher
from pathlib import Path
from types import ModuleType

import safetensors
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from .errors import FileError, ModelError
from .files import sha256
from .nn.tensor_files import read_tensors
from .packages import import_package, one_line, quiet
from .places import expanded, plain_path

__all__ = ["Brought", "Weights", "bring", "is_source", "lasting_source"]

FORM = "give timm:NAME, torchvision:NAME or FILE.py:FUNCTION"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIBRARY_PIXELS = 224  # of torchvision's networks; timm's tell their own
CLASSES = 1000  # of a function that must be told a number
PREFIXES = ("module.", "model.", "_orig_mod.")  # that DataParallel, Lightning and torch.compile put before names
COUNTERS = "num_batches_tracked"  # in no file of before torch 0.4.1, and used by nothing here
NAMED = 5  # names in a message
ANSWER_S = 10  # that a server may take before it counts as out of reach


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from.

    Args:
        file: name of the file, or of what was downloaded; None if they are what the library or function gave.
        sha256: of the file; of what was downloaded or a function gave, of the tensors as safetensors writes them; None if random.
        license: as far as the library or the file says one.
    """

    file: str | None = None
    sha256: str | None = None
    license: str | None = None

    @property
    def random(self) -> bool:
        """They are a library's initial ones."""
        return self.sha256 is None


@dataclass(frozen=True)
class Brought:
    """A network that someone brought.

    Args:
        source: the text that names it, without the path of a file.
        model: in eval mode, float32, on the CPU.
        weights: where they come from.
        unfilled: tensors that the file has for another number of classes, with both shapes in words: they are initial ones.
        mean: of the channels, that the images are normalised with.
        std: of the channels, likewise.
        pixels: side of the images that it was made for, as far as that is known.
        notes: lines on what was done in another way than usual.
    """

    source: str
    model: nn.Module
    weights: Weights
    unfilled: Mapping[str, str]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pixels: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Maker:
    """How to make a network, for its own number of classes or another one; the latter None where it cannot be told one."""

    source: str
    make: Callable[[int | None], nn.Module]
    takes_classes: bool
    weights: Weights


def is_source(text: str) -> bool:
    """Whether a text names a network to bring, and not the folder of a run."""
    library, colon, _ = text.partition(":")
    return (bool(colon) and library in LIBRARIES) or ".py:" in text or (text.endswith(".py") and not Path(text).is_dir())


def lasting_source(text: str) -> str:
    """The text with the file's absolute path."""
    if text.partition(":")[0] in LIBRARIES:
        return text
    file, name = _divided(text)
    return f"{expanded(file).resolve()}:{name}"


def bring(text: str, weights: Path | str | None = None, *, seed: int = 0) -> Brought:
    """The network that a text names.

    Args:
        text: "timm:NAME" and "torchvision:NAME" have random weights, "timm:NAME.TAG" and "torchvision:NAME.TAG" those that the
            library downloads; "FILE.py:FUNCTION" is called without arguments, and its own code runs.
        weights: a file of a state dict, by torch.save or as safetensors.
        seed: of random weights; torch's own generator is left as it was.

    Raises:
        ModelError: an unknown name, code that fails or makes no network, or weights of another network.
        CheckpointError: a file that is damaged or holds more than tensors.
        FileError: a file that is not there, or weights that cannot be downloaded.
        MissingExtraError: timm is not installed.
    """
    library = text.partition(":")[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = LIBRARIES[library](text, weights is not None) if library in LIBRARIES else _from_file(text)
        model = _made(found, None)
        unfilled: Mapping[str, str] = {}
        if weights is not None:
            model, unfilled = _with_weights(found, model, expanded(weights))
            found = replace(found, weights=_of_file(expanded(weights)))
        elif not found.weights.random and found.weights.sha256 == "":
            found = replace(found, weights=replace(found.weights, sha256=_digest(model)))
    model, notes = _plain(model)
    pixels = LIBRARY_PIXELS if library in LIBRARIES else None
    return _described(Brought(found.source, model.eval(), found.weights, unfilled, pixels=pixels, notes=notes))


# -- libraries -----------------------------------------------------------------------------------------------------------------


def _timm(text: str, given: bool) -> _Maker:
    name = text.partition(":")[2]
    timm = import_package("timm", "timm")
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise ModelError(_unknown(text, "timm", base, timm.list_models()))
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise ModelError(f"{text!r}: timm has no weights {tag!r} of {base}: {_choices(tags)}, or no tag")
    fetched = bool(tag) and not given
    settings = timm.get_pretrained_cfg(name)
    if fetched:
        _require_reachable(text, settings.hf_hub_id, settings.url)

    def make(classes: int | None) -> nn.Module:
        more = {} if classes is None else {"num_classes": classes}
        with quiet():
            return timm.create_model(name, pretrained=fetched, **more)  # type: ignore[no-any-return]

    weights = Weights(settings.hf_hub_id or name, "", settings.license) if fetched else Weights()
    return _Maker(text, make, True, weights)


def _torchvision(text: str, given: bool) -> _Maker:
    name = text.partition(":")[2]
    import torchvision

    base, _, tag = name.partition(".")
    if base not in torchvision.models.list_models():
        raise ModelError(_unknown(text, "torchvision", base, torchvision.models.list_models()))
    known = torchvision.models.get_model_weights(base)
    if tag and tag != "DEFAULT" and tag not in known.__members__:
        raise ModelError(f"{text!r}: torchvision has no weights {tag!r} of {base}: {_choices(list(known.__members__))}, or no tag")
    fetched = known[tag] if tag and not given else None
    takes = inspect.signature(torchvision.models.get_model_builder(base)).parameters
    bare = {"weights_backbone": None} if "weights_backbone" in takes else {}  # else a backbone is downloaded

    def make(classes: int | None) -> nn.Module:
        with quiet():
            if fetched is None:
                more = {} if classes is None else {"num_classes": classes}
                return torchvision.models.get_model(base, weights=None, **bare, **more)  # type: ignore[no-any-return]
            fetched.get_state_dict(progress=True, check_hash=True, weights_only=True)  # it reads them again, after this has looked
            return torchvision.models.get_model(base, weights=fetched)  # type: ignore[no-any-return]

    if fetched is not None:
        cached = Path(torch.hub.get_dir(), "checkpoints", fetched.url.rpartition("/")[2])
        if not cached.exists():
            _require_reachable(text, None, fetched.url)
    return _Maker(text, make, True, Weights() if fetched is None else Weights(fetched.url.rpartition("/")[2], ""))


LIBRARIES: dict[str, Callable[[str, bool], _Maker]] = {"timm": _timm, "torchvision": _torchvision}


def _unknown(text: str, library: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 3, 0.5)
    return f"{text!r}: {library} has no model {name!r}: {f'did you mean {_choices(near)}?' if near else FORM}"


def _choices(names: Sequence[str]) -> str:
    listed = ", ".join(names[:NAMED])
    return f"{listed} (and {len(names) - NAMED} more)" if len(names) > NAMED else listed or "there are none"


def _require_reachable(text: str, repository: str | None, url: str | None) -> None:
    """Raises a `FileError` if weights that are not in the cache cannot be downloaded: libraries try for a minute."""
    if repository is not None:
        hub = import_package("huggingface_hub", "timm")
        if any(
            isinstance(hub.try_to_load_from_cache(repository, name), str) for name in ("model.safetensors", "pytorch_model.bin")
        ):
            return
        url = f"{hub.constants.ENDPOINT}/{repository}"
    try:
        with urllib.request.urlopen(urllib.request.Request(str(url), method="HEAD"), timeout=ANSWER_S):
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise FileError(
            f"{text!r}: its weights are not in the cache, and {url} cannot be fetched ({why}): connect, or get the file elsewhere "
            "and give it with --weights FILE"
        ) from None


# -- a file of the user's ------------------------------------------------------------------------------------------------------


def _divided(text: str) -> tuple[str, str]:
    """File and function."""
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise ModelError(f"{text!r} names no network: {FORM}")
    return file, name


def _from_file(text: str) -> _Maker:
    file, name = _divided(text)
    path = expanded(file).resolve()
    if not path.is_file():
        raise FileError(f"{file}: no such file: {FORM}")
    source = f"{path.name}:{name}"
    with _code_of(path, source):
        module = _loaded(path)
    function = vars(module).get(name)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(name, own, 3, 0.5) or own
        raise ModelError(f"{file} has no function or class {name!r}: {f'it has {_choices(near)}' if near else FORM}")
    try:
        takes = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of C
        takes = inspect.signature(lambda: None).parameters
    needed = [
        p.name
        for p in takes.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if extra := [parameter for parameter in needed if parameter != "num_classes"]:
        raise ModelError(
            f"{source} needs {', '.join(extra)}, and is called without arguments but num_classes: write a function around it that "
            "returns the network"
        )

    def make(classes: int | None) -> nn.Module:
        if classes is None and "num_classes" in needed:
            classes = CLASSES
        with _code_of(path, source):
            made = function() if classes is None else function(num_classes=classes)
        if not isinstance(made, nn.Module):
            raise ModelError(f"{source} returns something of type {type(made).__name__}, not a torch.nn.Module")
        return made

    return _Maker(source, make, "num_classes" in takes, Weights(None, ""))


def _loaded(path: Path) -> ModuleType:
    """The module in a file. It is registered under a name of its own, because dataclasses look for their module."""
    name = f"onceforall_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _code_of(path: Path, source: str) -> Iterator[None]:
    """Inside, code of the file runs, and may import what lies beside it; what it raises becomes a line.

    Raises:
        ModelError: it raised something.
    """
    sys.path.insert(0, str(path.parent))
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            yield
    except (Exception, SystemExit) as error:
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else places[-1].lineno if places else None
        where = "" if line is None else f" (line {line})"
        raise ModelError(f"{source} fails{where}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))


# -- weights -------------------------------------------------------------------------------------------------------------------


def _made(found: _Maker, classes: int | None) -> nn.Module:
    try:
        return found.make(classes)
    except (ModelError, FileError):
        raise
    except Exception as error:  # of a library, whatever it finds wrong with a name or a download
        raise ModelError(f"{found.source!r} cannot be made: {type(error).__name__}: {one_line(error)}") from error


def _with_weights(found: _Maker, model: nn.Module, path: Path) -> tuple[nn.Module, Mapping[str, str]]:
    """The network with the weights of a file, made for the file's number of classes where that can be; what they left unfilled.

    Raises:
        CheckpointError: the file is damaged.
        ModelError: the weights of another network.
    """
    tensors = _renamed(read_tensors(path), model.state_dict())
    other = _classes(tensors, model.state_dict())
    if other is not None and found.takes_classes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _made(found, other)
    own = model.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTERS)]
    left = [name for name in tensors if name not in own]
    odd = {
        name: f"{name} is {_shape(tensors[name])} there and {_shape(value)} here"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    }
    wrong = [f"{what} {_choices(names)}" for what, names in (("missing", missing), ("unexpected", left)) if names]
    if odd and _classes(tensors, own) is None:
        wrong.append(_choices(list(odd.values())))
    if wrong:
        prefix = _prefix(left, missing)
        named = f"; all its names begin with {prefix!r}, which is to be taken off" if prefix else ""
        raise ModelError(f"{path}: not the weights of {found.source}: {'; '.join(wrong)}{named}")
    model.load_state_dict({name: value for name, value in tensors.items() if name not in odd}, strict=False)
    return model, odd


def _renamed(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before every name, where the network has no such names itself."""
    found = dict(tensors)
    while not set(found) & set(own):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            return dict(tensors)
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _classes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """The number of classes in a file that differs in nothing else, as it seems: in all odd shapes, one number for another."""
    numbers = set()
    for name, value in own.items():
        if name in tensors and (there := tensors[name].shape) != value.shape:
            if len(there) != len(value.shape):
                return None
            numbers |= {(a, b) for a, b in zip(there, value.shape, strict=True) if a != b}
    return numbers.pop()[0] if len(numbers) == 1 else None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _of_file(path: Path) -> Weights:
    license = None
    if path.suffix == ".safetensors":
        with plain_path(path) as plain, safetensors.safe_open(plain, "pt") as opened:
            license = (opened.metadata() or {}).get("license")
    return Weights(path.name, sha256(path), license)


def _digest(model: nn.Module) -> str:
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    return hasher(to_bytes(tensors)).hexdigest()


def _plain(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network in float32 on the CPU, and a note if it was something else."""
    types = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()} - {torch.float32}
    if any(t.is_quantized for t in (*model.parameters(), *model.buffers())):
        raise ModelError("the network is quantised, which cannot be trained: give the one that it was made of")
    notes = () if not types else (f"the network has {', '.join(map(_type, types))} weights: it is taken in float32",)
    return (model.float() if types else model).cpu(), notes


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _described(brought: Brought) -> Brought:
    """With what the network itself says about its images, as timm's do."""
    told = vars(brought.model).get("pretrained_cfg") or vars(brought.model).get("default_cfg")
    if not isinstance(told, Mapping):
        return brought
    mean, std, size = told.get("mean", brought.mean), told.get("std", brought.std), told.get("input_size", (None,))
    try:
        (a, b, c), (d, e, f) = map(float, mean), map(float, std)
        pixels = None if size[-1] is None else int(size[-1])
    except (TypeError, ValueError, IndexError):
        raise ModelError(
            f"{brought.source}: mean and std of its default_cfg must be three numbers each, and input_size (3, r, r)"
        ) from None
    if min(d, e, f) <= 0:
        raise ModelError(f"{brought.source}: std of its default_cfg is {std}: three numbers above 0 are needed")
    return replace(brought, mean=(a, b, c), std=(d, e, f), pixels=pixels)


def _prefix(names: Sequence[str], wanted: Sequence[str]) -> str:
    """What stands before all of the wanted names, as wrappers of training loops put it there."""
    if not wanted or not names:
        return ""
    before = names[0].removesuffix(next((name for name in wanted if names[0].endswith(f".{name}")), names[0]))
    return before if before and {f"{before}{name}" for name in wanted} <= set(names) else ""
