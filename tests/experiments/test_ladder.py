"""Batches that do not fit into memory: smaller ones of a declared ladder, nothing lost."""

from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import BatchMemoryError, InputError, is_out_of_memory
from critwin.experiments.in_memory import in_memory
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec
from critwin.experiments.units import resolve_levels
from critwin.records import Records
from toy_models import Side, ToyPoints


class Cramped(ToyPoints):
    """A model that has memory for a number of rows."""

    def __init__(
        self, room: int, *, in_sources: bool = False, error: Exception | None = None
    ) -> None:
        super().__init__()
        self.error = error or torch.OutOfMemoryError("no room")
        self.room, self.in_sources = room, in_sources
        self.tried: list[int] = []

    def generate(self, conditions: Any, streams: Any) -> torch.Tensor:
        if self.in_sources:
            self._check(len(streams))
        return super().generate(conditions, streams)

    def denoise(self, noisy: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        self._check(len(noisy))
        return super().denoise(noisy, *args, **options)

    def _check(self, rows: int) -> None:
        self.tried.append(rows)
        if rows > self.room:
            raise self.error


def measured(model: Any, batch_size: int, ladder: tuple[int, ...] = ()) -> Records:
    levels = resolve_levels([2.0, 0.0, -2.0], model.levels)
    spec = Spec(
        sources=tuple(plan_generated(11)),
        levels=levels,
        reversal=model.reversals[0],
        condition="none",
        batch_size=batch_size,
        batch_ladder=ladder,
    )
    return in_memory(model, (Side(),), spec)


def test_the_ladder_is_gone_down_once() -> None:
    model = Cramped(3)
    records = measured(model, 8, (4, 2, 1))
    assert len(records) == 33
    assert set(records.values["batch_size"]) == {2.0}
    assert model.tried[:3] == [8, 4, 2]
    assert set(model.tried[2:]) == {2}  # a size that failed is not tried again
    plain = measured(Cramped(8), 2)
    for name in ("source", "logsnr", "valid"):
        assert np.array_equal(records.column(name), plain.column(name))
    a, b = records.features["side"], plain.features["side"]
    assert np.array_equal(a.after, b.after)
    assert np.array_equal(a.before, b.before)


def test_sources_go_down_it_too() -> None:
    records = measured(Cramped(2, in_sources=True), 8, (4, 2, 1))
    assert len(records) == 33
    assert set(records.planted["source_batch_size"]) == {"2"}


def test_a_batch_that_fits_says_so() -> None:
    assert set(measured(Cramped(8), 8, (4,)).values["batch_size"]) == {8.0}
    assert "batch_size" not in measured(Cramped(8), 8).values


@pytest.mark.parametrize("ladder", [(), (4, 2)])
def test_what_fits_nowhere_is_one_line(ladder: tuple[int, ...]) -> None:
    with pytest.raises(BatchMemoryError, match="does not fit into memory") as caught:
        measured(Cramped(1), 8, ladder)
    assert "\n" not in str(caught.value)
    with pytest.raises(BatchMemoryError, match="half precision"):
        measured(Cramped(0), 1)


WORDS = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 19200000000 bytes. Error code 12 (Cannot allocate memory)",
    "MPS backend out of memory (MPS allocated: 5.0 GB, max allowed: 6.8 GB)",
    "CUDA error: out of memory",
)


@pytest.mark.parametrize("error", [MemoryError("x"), *map(RuntimeError, WORDS)], ids=range(4))
def test_every_allocator_is_understood(error: Exception) -> None:
    model = Cramped(2, error=error)
    assert len(measured(model, 8, (4, 2, 1))) == 33
    assert model.tried[:3] == [8, 4, 2]
    with pytest.raises(BatchMemoryError, match="a batch does not fit into memory: got 1 rows"):
        measured(Cramped(0, error=error), 1)


def test_torch_itself_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


def test_other_errors_of_a_network_stay_what_they_are() -> None:
    model = Cramped(0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        measured(model, 8, (4,))


@pytest.mark.parametrize("ladder", [(8,), (2, 4), (4, 0)])
def test_a_ladder_falls(ladder: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a ladder of batch sizes must fall"):
        measured(Cramped(8), 8, ladder)
