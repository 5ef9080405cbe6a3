"""How to read data that can be read in several ways: `--label`, `--classes`, `--group`, `--few`, `--task` and `--cache`."""

from dataclasses import dataclass
from pathlib import Path

from ..common.files import read_text
from ..errors import DataError
from ..tasks.task import task_of
from .formats.scan import same_name

CACHES = ("auto", "decoded", "none")  # how training images are kept, see `stores`
HUB = "hf:"  # prefix of a data set's name on the Hugging Face Hub
Classes = tuple[tuple[str, tuple[str, ...]], ...]  # for each class its name and its names in the data


@dataclass(frozen=True)
class Reading:
    """How to read data that can be read in several ways.

    Args:
        label: the column of labels in tables and Parquet files; None for the likeliest one by name.
        classes: classes to use, in this order; see `classes_of_text`. None for all, sorted by name.
        group: a column with the group of each image, or a regular expression that finds it in the image's path (its first group,
            or the whole match). No split divides a group.
        few: allow classes without images in a split, or with a single image.
        task: a name in `onceforall.tasks.task.TASKS`: "multilabel" if an image may have several labels, or none; `label` may
            then be several columns of 0 and 1. None for one class per image; if labels are clearly lists, an error asks which.
    """

    label: str | None = None
    classes: Classes | None = None
    group: str | None = None
    few: bool = False
    task: str | None = None

    @property
    def words(self) -> list[str]:
        """The command-line options for this reading."""
        named = [f"{name}={'+'.join(parts)}" if parts != (name,) else name for name, parts in self.classes or ()]
        given = {"--label": self.label, "--classes": ",".join(named), "--group": self.group, "--task": self.task}
        return [word for option, value in given.items() if value for word in (option, value)] + ["--few"] * self.few

    @property
    def several(self) -> bool:
        """Whether an image may have any number of labels."""
        return task_of(self.task).several


AS_IT_IS = Reading()


def reading_of(
    label: str | None = None, classes: str | None = None, group: str | None = None, few: bool = False, task: str | None = None
) -> Reading:
    """The reading for command-line options.

    Raises:
        DataError: there is no such task, or a class is named twice or has no name.
    """
    task_of(task)
    return Reading(label, None if classes is None else classes_of_text(classes), group, few, task)


def require_cache(cache: str | None) -> None:
    """Raise a `DataError` if `cache` is not one of `CACHES`."""
    if cache not in (None, *CACHES):
        raise DataError(f"--cache {cache}: choose from {', '.join(CACHES)}")


def classes_of_text(text: str) -> Classes:
    """Parse classes: "cat,dog,other=eel+cow", or a file with one class per line.

    Raises:
        DataError: a class is named twice or has no name.
        FileError: the file cannot be read.
    """
    path = Path(text)
    written = read_text(path).splitlines() if "," not in text and path.is_file() else text.split(",")
    found = []
    for entry in filter(None, map(str.strip, written)):
        name, _, parts = entry.partition("=")
        merged = tuple(same_name(part.strip()) for part in (parts.split("+") if parts else [name]))
        found.append((same_name(name.strip()), merged))
    names = [name for name, _ in found]
    for kind in (names, [part for _, parts in found for part in parts]):
        twice = next((name for name in kind if not name or kind.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"--classes {text}: {f'{twice} appears twice' if twice else 'a class without a name'}: write each once")
    if len(found) < 2:
        raise DataError(f"--classes {text}: at least 2 classes are needed: write cat,dog,other=eel+cow")
    return tuple(found)
