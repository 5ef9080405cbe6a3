"""How data are read where they leave a choice: what `--label`, `--classes`, `--group`, `--few`, `--task` and `--cache` say."""

from dataclasses import dataclass
from pathlib import Path

from ..common.files import read_text
from ..errors import DataError
from ..tasks.task import task_of
from .formats.scan import same_name

CACHES = ("auto", "decoded", "none")  # how training images are kept, see `stores`
HUB = "hf:"  # before the name of a data set of the Hugging Face Hub
Classes = tuple[tuple[str, tuple[str, ...]], ...]  # for each class its name and the names that the data have for it


@dataclass(frozen=True)
class Reading:
    """How data are read where they leave a choice.

    Args:
        label: the column of labels in tables and Parquet files; None for the likeliest by its name.
        classes: those that are used, in this order; see `classes.classes_of_text`. None for all, by name.
        group: the column of a table that says what an image belongs to, or a regular expression that finds it in the image's path:
            its first group, or all that it matches. No split divides what belongs together.
        few: classes may have no image in a split, or a single one in all.
        task: a name in `onceforall.tasks.task.TASKS`: "multilabel" where an image may have several labels, or none; `label` may
            then be several columns of 0 and 1. None for one class an image, unless the labels are plainly lists, which is asked
            about.
    """

    label: str | None = None
    classes: Classes | None = None
    group: str | None = None
    few: bool = False
    task: str | None = None

    @property
    def words(self) -> list[str]:
        """The options of a command line that mean it."""
        named = [f"{name}={'+'.join(parts)}" if parts != (name,) else name for name, parts in self.classes or ()]
        given = {"--label": self.label, "--classes": ",".join(named), "--group": self.group, "--task": self.task}
        return [word for option, value in given.items() if value for word in (option, value)] + ["--few"] * self.few

    @property
    def several(self) -> bool:
        """An image may have any number of labels."""
        return task_of(self.task).several


AS_IT_IS = Reading()


def reading_of(
    label: str | None = None, classes: str | None = None, group: str | None = None, few: bool = False, task: str | None = None
) -> Reading:
    """What the options of a command line mean.

    Raises:
        DataError: no such task, or classes without a name or named twice.
    """
    task_of(task)
    return Reading(label, None if classes is None else classes_of_text(classes), group, few, task)


def require_cache(cache: str | None) -> None:
    """Raises a `DataError` if it is none of `CACHES`."""
    if cache not in (None, *CACHES):
        raise DataError(f"--cache {cache}: choose from {', '.join(CACHES)}")


def classes_of_text(text: str) -> Classes:
    """Classes as they are written: "cat,dog,other=eel+cow", or a file with one of them a line.

    Raises:
        DataError: a class without a name, or one named twice.
        FileError: the file cannot be read.
    """
    path = Path(text)
    written = read_text(path).splitlines() if "," not in text and path.is_file() else text.split(",")
    found = []
    for one in filter(None, map(str.strip, written)):
        name, _, parts = one.partition("=")
        own = tuple(same_name(part.strip()) for part in (parts.split("+") if parts else [name]))
        found.append((same_name(name.strip()), own))
    names = [name for name, _ in found]
    for kind in (names, [part for _, parts in found for part in parts]):
        twice = next((name for name in kind if not name or kind.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"--classes {text}: {f'{twice} stands twice' if twice else 'a class without a name'}: write each once")
    if len(found) < 2:
        raise DataError(f"--classes {text}: {len(found)} of them, at least 2 are needed: write cat,dog,other=eel+cow")
    return tuple(found)
