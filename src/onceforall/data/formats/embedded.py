"""Data sets from libraries: scikit-learn's digits, and torchvision's by name."""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...common.advice import did_you_mean
from ...common.files import reading_or_writing
from ...common.packages import one_line
from ...common.places import expanded
from ...errors import DataError
from ..originals import Indices, Load, Part, Source, digest, file_mark


def open_digits() -> Source:
    """The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn, without download; they have no test part."""
    values, labels = _digits()
    pixels = np.round(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)

    names = [f"digit {i}" for i in range(len(pixels))]

    def read(positions: Indices) -> Iterator[Load]:
        for i in positions:
            yield Load(partial(Image.fromarray, pixels[i]), names[i])

    part = Part(names, labels, digest(["digits", pixels.tobytes().hex()]), read)
    return Source("digits", tuple(str(digit) for digit in range(10)), part)


def _digits() -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Values from 0 to 16 (n, 64) and labels (n,), if possible from scikit-learn's file: importing the library takes a second."""
    spec = find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz"
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1], rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return values, labels.astype(np.int64)


def open_torchvision(source: str) -> Source:
    """A classification data set of torchvision on this disk: `torchvision:NAME:ROOT`.

    Raises:
        DataError: there is no such data set, it is not in ROOT, or its targets are not class numbers.
    """
    from torchvision import datasets

    kind, _, rest = source.partition(":")
    name, _, root = rest.partition(":")
    if not name or not root:
        raise DataError(f"{source}: write {kind}:NAME:ROOT, for example torchvision:CIFAR10:/path/to/data")
    if name not in datasets.__all__ or not inspect.isclass(datasets.__dict__[name]):
        close = [other for other in datasets.__all__ if other.lower().startswith(name[:3].lower())]
        hint = f", did you mean {' or '.join(close[:6])}?" if close else ""
        raise DataError(f"torchvision has no data set '{name}'{hint}: see torchvision.datasets for the names")
    if not expanded(root).is_dir():
        near = did_you_mean(expanded(root))
        raise DataError(f"{root}: no such folder: {near or f'give the folder that torchvision downloaded {name} to'}")
    maker = datasets.__dict__[name]
    remarks: tuple[str, ...] = ()
    parameters = inspect.signature(maker).parameters
    if "train" in parameters:
        train, test = (_make(maker, name, root, "train", flag) for flag in (True, False))
    elif "split" in parameters:
        train = _make(maker, name, root, "split", "train", "trainval")
        test = _make(maker, name, root, "split", "test", "val", "valid")
        remarks = _other_splits(maker, name, root)
    else:
        train, test = _make(maker, name, root, "", None), None
    files = files_of_torchvision(source)
    part = _part(train, f"{name} train", files, root)
    classes = _class_names(train[0], part)
    other = None if test is None else _part(test, f"{name} test", files, root)
    return Source(source, classes, part, test=other, remarks=remarks, files=files)


def files_of_torchvision(source: str) -> list[str]:
    """The files of `torchvision:NAME:ROOT`: those in ROOT with that name (cifar-10-batches-py), or all if there are none."""
    _, name, root = [*source.split(":", 2), "", ""][:3]
    own = re.compile(re.escape(_plain(name)) + (r"(?!\d)" if name[-1:].isdigit() else ""))  # CIFAR100 is not CIFAR10
    with reading_or_writing(Path(root)):
        inside = list(expanded(root).iterdir())
        named = [path for path in inside if own.match(_plain(path.name))] or inside
        return sorted(str(path) for top in named for path in (top, *top.rglob("*")) if path.is_file())


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _other_splits(maker: Any, name: str, root: str) -> tuple[str, ...]:
    """A line on an unused validation part beside a test part: as in earlier versions, training images are held out instead."""
    for split in ("val", "valid"):
        with suppress(Exception):  # data sets raise all kinds of errors for unknown splits and missing files
            size = len(maker(str(expanded(root)), split=split))
            maker(str(expanded(root)), split="test")
            return (f"not used: {name}'s {size:,} images of '{split}', because it also has 'test': part of 'train' is held out",)
    return ()


def _open(maker: Any, root: str, argument: str, value: object) -> Any:
    return maker(root, **({argument: value} if argument else {}))


_open_once = lru_cache(maxsize=2)(_open)  # train and test, in a process that decodes


def _sample(how: tuple[Any, str, str, object], i: int, name: str) -> Image.Image:
    """An image of a data set, for another process, which opens the data set once."""
    return _from_dataset(_open_once(*how), i, name)


def _make(maker: Any, name: str, root: str, argument: str, *values: object) -> tuple[Any, tuple[Any, str, str, object]]:
    """The data set with the first value that it accepts (torchvision raises a ValueError for others), and how to open it."""
    for value in values:
        how = maker, str(expanded(root)), argument, value
        try:
            return _open(*how), how
        except ValueError:
            continue
        except Exception as error:
            raise DataError(
                f"torchvision cannot open {name} in {root} ({one_line(error)}): download it there first with "
                f"torchvision.datasets.{name}({root!r}, download=True)"
            ) from error
    raise DataError(
        f"torchvision's {name} does not divide its images into train and test in a way known here: use a folder instead"
    )


def _part(made: tuple[Any, tuple[Any, str, str, object]], name: str, files: Sequence[str], root: str) -> Part:
    dataset, how = made
    with reading_or_writing(Path(root)):
        marks = [file_mark(Path(file).resolve()) for file in files]

    def read(positions: Indices) -> Iterator[Load]:
        for i in positions:
            yield Load(partial(_from_dataset, dataset, int(i), f"{name}[{i}]"), f"{name}[{i}]")

    def single(positions: Indices) -> Iterator[Load]:
        for i in positions:
            yield Load(partial(_sample, how, int(i), f"{name}[{i}]"), f"{name}[{i}]")

    labels = _labels(dataset, name)
    return Part([f"{name}[{i}]" for i in range(len(labels))], labels, digest([name, *marks]), read, single=single)


def _labels(dataset: Any, name: str) -> Indices:
    inside = vars(dataset)
    known = next((inside[key] for key in ("targets", "labels", "_labels") if key in inside), None)
    try:
        values = [dataset[i][1] for i in range(len(dataset))] if known is None else known
        labels = np.asarray(values)
    except Exception as error:
        raise DataError(f"{name}: its labels cannot be read ({error})") from error
    if labels.shape != (len(dataset),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: its targets are not one class number per image: only classification data sets can be used")
    return labels.astype(np.int64)


def _class_names(dataset: Any, part: Part) -> tuple[str, ...]:
    count = int(part.labels.max(initial=-1)) + 1
    if "classes" in dir(dataset):
        names = tuple(" ".join(name) if isinstance(name, tuple) else str(name) for name in dataset.classes)
        if len(names) >= count:
            return names
    return tuple(str(i) for i in range(count))


def _from_dataset(dataset: Any, i: int, name: str) -> Image.Image:
    try:
        image = dataset[i][0]
    except Exception as error:  # data sets raise all kinds of errors for a broken file
        raise DataError(f"{name}: cannot be decoded ({one_line(error)})") from error
    if not isinstance(image, Image.Image):
        raise DataError(f"{name}: a {type(image).__name__}, not a Pillow image: use a folder instead")
    return image
