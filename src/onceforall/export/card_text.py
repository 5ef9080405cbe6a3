"""Text of cards: Markdown and its YAML head."""

import json

__all__ = ["code", "kind", "plain", "yaml_of"]


def yaml_of(value: object) -> str:
    """A value as JSON, which YAML reads as it is."""
    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    for letter in "\\`*_[]<>|#":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def kind(family: str, number: int = 1) -> str:
    """What networks of a family are called; those of a network that someone brought have no name of ours."""
    return f"{'' if family == 'graph' else f'{family} '}{'network' if number == 1 else 'networks'}"


def code(text: str) -> str:
    """Text between backticks, on one line."""
    return " ".join(text.replace("`", "'").split())
