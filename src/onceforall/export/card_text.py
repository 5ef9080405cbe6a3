"""Text of cards: Markdown and its YAML head."""

import json

__all__ = ["code", "plain", "yaml_of"]


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
