"""Small image folders, made on the spot."""

from pathlib import Path

import pytest
from pictures import MakeFolder, picture


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make_folder({"train": {"cat": 5, "dog": 5}, ...}) or make_folder({"cat": 5, "dog": 5}): lossless, all different."""

    def make(layout: dict[str, int | dict[str, int]], name: str = "images") -> Path:
        root, seed = tmp_path / name, 0
        for outer, inner in layout.items():
            pairs = inner.items() if isinstance(inner, dict) else [("", inner)]
            for folder, count in pairs:
                path = root / outer / folder
                path.mkdir(parents=True)
                for i in range(count):
                    seed += 1
                    picture(seed).save(path / f"{i:03}.png")
        return root

    return make
