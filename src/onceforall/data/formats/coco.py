"""Annotations in COCO's format, by the categories of an image."""

from collections import Counter
from pathlib import Path
from typing import Any

from ...common.readable import plural
from ...errors import DataError, TaskError
from .label_lists import MULTILABEL
from .scan import shown


def rows_of_coco(path: Path, data: dict[str, Any], *, several: bool) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """A row for each image, with its file and its label or labels, and what is doubtful, a line each.

    Args:
        path: of the file, for messages.
        data: its images, annotations and categories.
        several: an image may have several labels.

    Raises:
        DataError: several categories for an image, or one that is none.
        KeyError: what the format needs is not there.
    """
    names = {one["id"]: str(one["name"]) for one in data["categories"]}
    twice = [name for name, n in Counter(names.values()).items() if n > 1]
    remarks = tuple(f"several categories are called {shown(name)}: they are one class" for name in twice[:3])
    if odd := {one["category_id"] for one in data["annotations"]} - set(names):
        raise DataError(f"{path}: an annotation is of category {min(odd, key=str)}, which is not among the categories")
    categories: dict[Any, set[str]] = {}
    for one in data["annotations"]:
        categories.setdefault(one["image_id"], set()).add(names[one["category_id"]])
    many = [one["file_name"] for one in data["images"] if len(categories.get(one["id"], ())) > 1]
    if many and not several:
        what = f"{many[0]} has annotations of several categories ({plural(len(many), 'such image')})"
        raise TaskError(f"{path}: {what}: for classes an image has one; {MULTILABEL} takes all of them")
    labels = {number: {"label": sorted(found) if several else min(found)} for number, found in categories.items()}
    return tuple({"file_name": one["file_name"], **labels.get(one["id"], {})} for one in data["images"]), remarks
