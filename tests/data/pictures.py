"""Small images for the tests of the data part."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MakeFolder = Callable[..., Path]


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(
    path: Path,
    labels: list[int],
    *,
    seed: int = 0,
    image: str = "img",
    label: str = "label",
    names: list[str] | None = None,
    plain: bool = False,
    kind: pa.DataType | None = None,
) -> None:
    """Random images, lossless; `names` as the Hugging Face hub keeps them; `plain` bytes or its struct."""
    images = [png(seed + i) for i in range(len(labels))]
    column = pa.array(images) if plain else pa.array([{"bytes": data, "path": None} for data in images])
    table = pa.table({image: column, label: pa.array(labels, pa.int64()).cast(kind or pa.int64())})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
