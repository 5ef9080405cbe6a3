"""Text of cards: Markdown, its YAML head, and the crop in the program that prepares an image."""

import json
from math import ceil

from ..arch import Arch
from .config import ExportConfig

__all__ = ["bleed", "code", "plain", "yaml_of"]


def bleed(arch: Arch, config: ExportConfig) -> float:
    """What ImageOps.fit cuts from each side, as a share, to keep what the centre crop keeps."""
    return (1 - arch.resolution / ceil(arch.resolution / config.preprocessing.crop_share)) / 2


def yaml_of(value: object) -> str:
    """A value as JSON, which YAML reads as it is."""
    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    for letter in "\\`*_[]<>|#":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def code(text: str) -> str:
    """Text between backticks, on one line."""
    return " ".join(text.replace("`", "'").split())
