"""Small photographs with any number of coloured shapes on each, and tables that tell which."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = {"blue": (40, 60, 230), "green": (30, 200, 60), "red": (230, 40, 40)}


def shapes_table(root: Path, images: int = 150, *, size: int = 28, how: str = "lists", seed: int = 0) -> Path:
    """A folder of photographs and a table: "lists" of names with semicolons, "lines" of JSON, or "columns" of 0 and 1."""
    rng = np.random.default_rng(seed)
    (root / "photos").mkdir(parents=True)
    rows = []
    for i in range(images):
        own = [name for name in SHAPES if rng.random() < 0.4]
        image = Image.fromarray(rng.integers(90, 160, (size, size, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(image)
        for name in own:
            x, y = rng.integers(0, size - size // 2, 2).tolist()
            (draw.rectangle if name == "blue" else draw.ellipse)((x, y, x + size // 2, y + size // 2), fill=SHAPES[name])
        name = f"photos/{i:03}.png"
        image.save(root / name)
        rows.append((name, own))
    if how == "lines":
        path = root / "all.jsonl"
        path.write_text("".join(json.dumps({"file_name": name, "tags": own}) + "\n" for name, own in rows))
        return path
    path = root / "all.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if how == "lists":
            writer.writerows([("file_name", "tags"), *((name, ";".join(own)) for name, own in rows)])
        else:
            writer.writerows([("file_name", *SHAPES), *((name, *(int(x in own) for x in SHAPES)) for name, own in rows)])
    return path
