"""Zip archives of folders, piece by piece as they are sent."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import reading_or_writing

__all__ = ["zipped"]

BLOCK = 1 << 18


def zipped(folder: Path) -> Iterator[bytes]:
    """A zip archive of the folder's files, piece by piece: nothing is held in memory or written to the disk."""
    sink: Any = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            info = zipfile.ZipInfo.from_file(path, f"{folder.name}/{path.relative_to(folder)}")
            info.compress_type = zipfile.ZIP_DEFLATED
            with reading_or_writing(path), open(path, "rb") as file, archive.open(info, "w") as entry:
                while block := file.read(BLOCK):
                    entry.write(block)
                    yield sink.taken()
    yield sink.taken()


class _Sink:
    """A file that can only be written, and is emptied on the way."""

    mode = "wb"

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.written = 0

    def write(self, data: bytes, /) -> int:
        self.blocks.append(bytes(data))
        self.written += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.written

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError("this can only be written")

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        """What was written since the last time."""
        data, self.blocks = b"".join(self.blocks), []
        return data
