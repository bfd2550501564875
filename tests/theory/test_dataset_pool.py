"""Blocks side by side: in order, bounded, and the same numbers as one after the other."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import numpy as np
import pytest
import torch

from critwin.streams import numpy_stream
from critwin.theory._dataset_pool import in_order
from critwin.theory.datasets import dataset_prediction

CPU = torch.device("cpu")


@pytest.fixture
def _two_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_cores")
def test_results_come_in_order_from_several_threads() -> None:
    threads = set()
    together = threading.Barrier(2, timeout=10)

    def call(key: int) -> int:
        if key < 2:
            together.wait()  # passes only if two calls run at the same time
        threads.add(threading.get_ident())
        return key**2

    assert list(in_order(call, range(9), CPU)) == [key**2 for key in range(9)]
    assert len(threads) == 2
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_cores")
def test_few_are_under_way_at_a_time() -> None:
    begun: list[int] = []

    def call(key: int) -> int:
        begun.append(key)
        return key

    results = in_order(call, range(1000), CPU)
    next(results)
    assert len(begun) <= 6
    assert isinstance(results, Generator)
    results.close()
    assert len(begun) <= 8
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_cores")
def test_an_error_ends_the_work_and_gives_the_threads_back() -> None:
    def call(key: int) -> int:
        if key == 3:
            raise ValueError("no")
        return key

    with pytest.raises(ValueError, match="no"):
        list(in_order(call, range(50), CPU))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_cores")
def test_predictions_do_not_depend_on_the_number_of_cores() -> None:
    rng = numpy_stream(0, "pool")
    points, labels = rng.standard_normal((3100, 5)).astype(np.float32), np.arange(3100) % 3
    levels = [2.0, 0.0, -2.0]
    both = dataset_prediction(points, {"label": labels}, levels)
    torch.set_num_threads(1)
    one = dataset_prediction(points, {"label": labels}, levels)
    for name in ("transitions", "leave_one_out"):
        a, b = getattr(both, name)["label"].probs, getattr(one, name)["label"].probs
        np.testing.assert_allclose(a, b, atol=2e-7)
    np.testing.assert_allclose(both.collapse.entropy, one.collapse.entropy, rtol=1e-6)
