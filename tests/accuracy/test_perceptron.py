"""The forward pass of a perceptron, and the units that it leaves out."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall.accuracy.published import Perceptron


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 10**6), st.floats(0, 1))
def test_idle_units_are_left_out_exactly(sizes: list[int], seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape) for shape in zip(sizes, [*sizes[1:], 1], strict=True)]
    weights = [np.where(rng.random(w.shape) < share, 1e-39, w) for w in weights]
    biases = [rng.standard_normal(w.shape[1]) for w in weights]
    x = rng.integers(0, 2, (10, sizes[0])).astype(np.float32)
    wanted = x.astype(np.float64)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        wanted = (np.maximum(wanted, 0) if i else wanted) @ weight + bias
    found = Perceptron.of(weights, biases)
    np.testing.assert_allclose(found(x.copy()), wanted[:, 0], atol=1e-4)
    for array in (*found.weights, *found.biases):
        assert not ((array != 0) & (np.abs(array) < 1e-30)).any()
    for before, after in pairwise(found.weights):
        assert before.any(0).all()
        assert after.any(1).all()
