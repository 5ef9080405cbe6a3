"""Names of folders and Parquet files that mean training, validation or test images.

Beside the training images, the first of test, evaluation and validation becomes the test part, the second the held-out part.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from ...errors import DataError

Role = Literal["train", "test", "evaluation", "validation"]

WORDS: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "trainval"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "tst", "testset"), "test"),
    **dict.fromkeys(("eval", "evaluation", "holdout"), "evaluation"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "dev", "devel", "development", "devset"), "validation"),
}
NEUTRAL = frozenset(  # words without meaning for the split: x_train, training_set, train_images, the Hub's partial-train
    {
        "x", "img", "imgs", "image", "images", "jpg", "jpeg", "jpegs", "png", "pngs", "picture", "pictures", "photo", "photos",
        "pic", "pics", "set", "data", "dataset", "split", "folder", "partial", "parquet",
    }
)  # fmt: skip
COLUMNS = ("split", "set", "subset", "partition", "splitname")  # of tables: they divide the images
FOLDS = ("fold", "folds", "kfold")  # of cross-validation
MOST = 6  # different values of a column that names splits
ORDER: tuple[Role, ...] = ("test", "evaluation", "validation")


def role_of(name: str) -> Role | None:
    """The split that a name means if it means nothing else: train, Testing, x_train, test_images, val2017; not test_tube."""
    return mentions_role(name) if is_plain(name) else None


def is_plain(name: str) -> bool:
    """Whether a name means at most a split: images, data, train_images; not cat or seg_train."""
    words = _words(name)
    return bool(words) and all(word in WORDS or word in NEUTRAL or word.isdigit() for word in words)


def mentions_role(name: str) -> Role | None:
    """The only split among the words of a name: seg_train, train_small; None if there is none or more than one."""
    roles = {WORDS[word] for word in _words(name) if word in WORDS}
    return roles.pop() if len(roles) == 1 else None


def without_role(name: str) -> tuple[str, ...]:
    """The words of a name that do not mean a split: ("cat",) for train_cat and testCat_2017."""
    return tuple(word for word in _words(name) if not (word in WORDS or word in NEUTRAL or word.isdigit()))


def tells_split(column: str, values: Iterable[object] = ()) -> bool:
    """Whether a column of a table seems to name splits: by its name (is_train), or by all of its values (train, val)."""
    different = set[str]()
    for value in values:
        different.add(str(value))
        if len(different) > MOST:
            break
    roles = {mentions_role(value) for value in different}  # PublicTest too
    by_name = mentions_role(column) is not None and set(without_role(column)) <= {"is", "in"}
    return by_name or "".join(_words(column)) in (*COLUMNS, *FOLDS) or (len(roles) > 1 and None not in roles)


def arrange(found: Mapping[str, Role], where: str) -> list[str]:
    """The names of the training, test and held-out parts, in this order, as far as they exist.

    Raises:
        DataError: there is no training part, or there is more than one reading.
    """
    named: dict[Role, list[str]] = {}
    for name, role in found.items():
        named.setdefault(role, []).append(name)
    for role, names in named.items():
        if len(names) > 1:
            raise DataError(
                f"{where}: which are the {role} images, {' or '.join(sorted(names))}? Move the others away, or give them names "
                f"without a word such as '{role}'"
            )
    if "train" not in named:
        raise DataError(f"{where}: no training images beside {', '.join(sorted(found))}: name their folder or files 'train'")
    others = [named[role][0] for role in ORDER if role in named]
    if len(others) > 2:
        raise DataError(
            f"{where}: which two of {', '.join(others)} are the test and the held-out images? Move one away: of the other two, the "
            "first in this order becomes the test part"
        )
    return [named["train"][0], *others]


def _words(name: str) -> list[str]:
    text = re.sub(r"held[\W_]*out|hold[\W_]*out", "holdout", name, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", text)
    return re.findall(r"[^\W_]+", text.lower())
