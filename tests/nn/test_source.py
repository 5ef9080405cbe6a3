"""`to_source`: the text loads the same state dict and computes the same as `build`, in every space."""

import ast

import numpy as np
import pytest
import torch

from onceforall.nn.source import to_source
from onceforall.nn.static import build


def made(text):
    scope = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), scope)
    return scope


def test_the_text_is_the_network(small_space):
    rng = np.random.default_rng(0)
    for arch in (small_space.smallest(), small_space.largest(), small_space.sample(rng)):
        plan = small_space.lower(arch, 10)
        network = build(plan).eval()
        with torch.no_grad():
            for value in network.buffers():
                if value.is_floating_point():
                    value.copy_(torch.rand_like(value) + 0.5)
        text = to_source(plan, about="a test")
        copy = made(text)["Network"]().eval()
        assert list(copy.state_dict()) == list(network.state_dict())
        copy.load_state_dict(network.state_dict())
        x = torch.rand(2, *plan.input_shape)
        with torch.no_grad():
            torch.testing.assert_close(copy(x), network(x), rtol=1e-5, atol=1e-5)


def test_equal_blocks_share_a_class_and_nothing_but_torch_is_imported(small_space):
    plan = small_space.lower(small_space.largest(), 10)
    tree = ast.parse(to_source(plan, about="a test"))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == len(set(classes)) <= len({segment.signature for segment in plan.segments}) + 1
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"__future__", "json", "pathlib", "torch", "torch.nn"}


@pytest.mark.parametrize("about", ['it says "hello"', "a \\ b", 'ends with "'])
def test_any_text_about_it(small_space, about):
    plan = small_space.lower(small_space.smallest(), 10)
    assert ast.get_docstring(ast.parse(to_source(plan, about=about)), clean=False) == about
