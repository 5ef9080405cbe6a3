"""Pinned networks, in RUN/explorer/pins.json. Each change reads the file, changes one pin and writes all pins, under a lock:
when two people pin at the same time, even in two explorers, nothing is lost."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arch import Arch
from ..common.files import make_folder, one_at_a_time, read_json, write_json
from ..errors import FileError

FORMAT = "onceforall.pins/1"
MOST, LONGEST = 200, 80


class Pins:
    """The pins of a run, oldest first; each is {"id", "name", "arch", "made"}."""

    def __init__(self, run: Path) -> None:
        self.path = run / "explorer" / "pins.json"

    def read(self) -> list[dict[str, Any]]:
        """All pins.

        Raises:
            FileError: the file is damaged.
        """
        if not self.path.exists():
            return []
        data = read_json(self.path)
        try:
            if data["format"] != FORMAT:
                raise ValueError(data["format"])
            pins = [{**{key: str(pin[key]) for key in ("id", "name", "arch")}, "made": float(pin["made"])} for pin in data["pins"]]
            for pin in pins:
                Arch.from_json(str(pin["arch"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileError(f"{self.path}: damaged or edited ({error}): move it away to start without pins") from None
        return pins

    def add(self, arch: Arch, name: str) -> dict[str, Any]:
        """Pin a network; if it is already pinned, return that pin."""
        with self._changing() as pins:
            for pin in pins:
                if pin["arch"] == arch.to_json():
                    return pin
            if len(pins) >= MOST:
                raise FileError(f"{MOST} networks are pinned, and there may be no more: remove some")
            pins.append({"id": secrets.token_hex(6), "name": _name(name), "arch": arch.to_json(), "made": time.time()})
            return pins[-1]

    def rename(self, id: str, name: str) -> dict[str, Any]:
        """Rename a pin."""
        with self._changing() as pins:
            for pin in pins:
                if pin["id"] == id:
                    pin["name"] = _name(name)
                    return pin
            raise FileError("this pin no longer exists: someone has removed it, so pin the network again")

    def remove(self, id: str) -> None:
        """Remove a pin; it is no error if it is already gone."""
        with self._changing() as pins:
            pins[:] = [pin for pin in pins if pin["id"] != id]

    @contextmanager
    def _changing(self) -> Iterator[list[dict[str, Any]]]:
        """The pins under the lock; they are saved unless an error is raised."""
        with one_at_a_time(make_folder(self.path.parent) / ".pins.lock"):
            pins = self.read()
            yield pins
            write_json(self.path, {"format": FORMAT, "pins": pins})


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > LONGEST:
        raise FileError(f"the name has {len(name)} characters: give one of 1 to {LONGEST}")
    return name
