"""Our elastic networks compute what the reference computes, with weights and images by its recipe."""

import json
import os
from pathlib import Path
from typing import Any

import golden_recipe
import numpy as np
import pytest
import torch
from golden_recipe import FACTS

from onceforall import Supernet, published

TOLERANCE = 1e-4  # of the standard deviation of the logits
PUBLISHED = os.environ.get("ONCEFORALL_PUBLISHED", "")


def deviation(supernet: Supernet, entry: dict[str, Any], reference: np.ndarray) -> float:
    """The largest difference from the reference's logits, of the supernet and of the extracted network, in standard deviations."""
    arch = published.arch(supernet.space, entry["arch"], entry["resolution"])
    x = golden_recipe.images(entry["resolution"])
    with torch.no_grad():
        found = supernet(x, arch).numpy(), supernet.extract(arch)(x).numpy()
    assert found[0].shape == reference.shape
    return float(max(np.abs(logits - reference).max() for logits in found) / reference.std())


@pytest.mark.parametrize("name", published.NAMES)
def test_embedded(name: str) -> None:
    facts = FACTS[name]
    made = published.original_state_dict(Supernet(published.published_space(name), 1000))
    shapes = {key: tuple(tensor.shape) for key, tensor in made.items()}
    assert golden_recipe.digest(shapes) == facts["sha256"], "names and shapes are not those of the original"
    weights = golden_recipe.weights(shapes, golden_recipe.statistics(name))
    supernet = published.load_supernet(weights, name)
    assert not supernet.training
    assert deviation(supernet, facts["archs"][facts["embedded"]], golden_recipe.logits(name)) < TOLERANCE
    again = published.original_state_dict(supernet)
    assert again.keys() == weights.keys()
    for key, tensor in weights.items():
        assert again[key].dtype == tensor.dtype
        assert torch.equal(again[key], tensor), key


@pytest.mark.skipif(not PUBLISHED, reason="ONCEFORALL_PUBLISHED does not name the folder of the published data")
@pytest.mark.parametrize("name", published.NAMES)
def test_all_golden_outputs(name: str) -> None:
    folder = Path(PUBLISHED) / "golden"
    shared = json.loads((folder / f"{name}.shared.json").read_text(encoding="utf-8"))
    assert shared["archs"] == FACTS[name]["archs"]
    shapes = {key: tuple(shape) for key, shape in shared["state_dict_shapes"].items()}
    with np.load(folder / f"{name}.bn_stats.npz") as statistics:
        supernet = published.load_supernet(golden_recipe.weights(shapes, dict(statistics)), name)
    with np.load(folder / f"{name}.shared.npz") as outputs:
        found = [deviation(supernet, *pair) for pair in zip(shared["archs"], outputs["logits"], strict=True)]
    print(f"{name}: at most {max(found):.1e} standard deviations over {len(found)} architectures")
    assert max(found) < TOLERANCE
