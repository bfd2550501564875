"""Streams: independent of order, neighbours and each other; float32 on the CPU; no collisions."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import CritwinError
from critwin.streams import Draws, UnitStreams, canary, normals, numpy_stream, seed_of, stream


def units(count: int) -> list[UnitStreams]:
    return [UnitStreams(seed=1, source=f"s{n}", logsnr=0.5, replicate=n % 3) for n in range(count)]


def test_seeds_are_positive_63_bit_and_do_not_collide() -> None:
    seeds = {seed_of(0, f"s{n}", "1.000000", 0, "noise") for n in range(100_000)}
    assert len(seeds) == 100_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert max(seeds) > 2**62


def test_first_draws_of_many_streams_do_not_collide() -> None:
    """Two float32 normals carry some 45 bits: of 8e3 streams no two should share both."""
    draws = normals(units(8_000), "noise", (2,)).numpy()
    assert len(np.unique(draws.view(np.uint64))) == 8_000


def test_the_planted_twin_collides() -> None:
    """What the state is for: PyTorch's own seeding keeps 32 bits, so these two are one stream."""
    first, second = (
        torch.randn(8, generator=torch.Generator().manual_seed(s)) for s in (5, 5 + 2**32)
    )
    assert torch.equal(first, second)


def test_streams_differ_though_their_seeds_agree_in_32_bits() -> None:
    # found by search: the two seeds have the same low 32 bits
    by_low: dict[int, int] = {}
    for n in range(200_000):
        low = seed_of(0, "pair", n) & 0xFFFFFFFF
        if low in by_low:
            a, b = (torch.randn(8, generator=stream(0, "pair", k)) for k in (by_low[low], n))
            assert not torch.equal(a, b)
            return
        by_low[low] = n
    pytest.fail("no pair found")


def test_every_part_of_the_key_matters() -> None:
    base = UnitStreams(seed=1, source="s", logsnr=0.5, replicate=0)
    variants = [
        base,
        replace(base, seed=2),
        replace(base, source="t"),
        replace(base, logsnr=0.500001),
        replace(base, logsnr=None),
        replace(base, replicate=1),
    ]
    draws = normals(variants, "noise", (4,))
    draws = torch.cat([draws, normals([base], "reverse", (4,))])
    assert len(torch.unique(draws, dim=0)) == len(variants) + 1


def test_keys_of_different_types_are_different() -> None:
    assert len({seed_of(0, 1), seed_of(0, 1.0), seed_of(0, "1"), seed_of("0", 1)}) == 4
    assert seed_of("a", "b") != seed_of("ab") != seed_of("a,b")
    with pytest.raises(ValueError, match="JSON"):
        seed_of(float("nan"))


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (-1e-9, 0.0), (1 / 3, 0.333333), (2.5, 2.5 + 1e-8)]
)
def test_levels_are_named_to_six_decimals(one: float, other: float) -> None:
    first = UnitStreams(seed=1, source="s", logsnr=one, replicate=0)
    assert torch.equal(
        normals([first], "noise", (3,)), normals([replace(first, logsnr=other)], "noise", (3,))
    )


def test_rows_depend_on_nothing_but_their_unit() -> None:
    many = units(30)
    together = normals(many, "noise", (3, 4))
    assert together.shape == (30, 3, 4)
    assert together.dtype == torch.float32
    assert together.device.type == "cpu"
    alone = torch.cat([normals([unit], "noise", (3, 4)) for unit in reversed(many)])
    assert torch.equal(together, alone.flip(0))
    assert torch.equal(normals(many[7:9], "noise", (3, 4)), together[7:9])


def test_draws_keep_their_generators_open() -> None:
    many = units(5)
    draws = Draws(many, "reverse")
    assert len(draws) == 5
    steps = [draws.normal((20,)) for _ in range(3)]
    assert not torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], normals(many, "reverse", (20,)))
    # the sequence of calls, not the neighbours, decides what comes next
    single = Draws(many[2:3], "reverse")
    assert torch.equal(
        torch.cat([single.normal((20,)) for _ in range(3)]), torch.stack(steps)[:, 2]
    )


def test_draws_of_any_shape() -> None:
    assert normals([], "noise", (3,)).shape == (0, 3)
    assert normals(units(2), "noise", ()).shape == (2,)
    uniform = Draws(units(200), "label").uniform((50,))
    assert uniform.dtype == torch.float64
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 5 * (1 / 12 / 10_000) ** 0.5


def test_three_hundred_streams_are_uncorrelated_standard_normals() -> None:
    """Every one of 44,850 correlations, and all moments, within 5 of their standard errors."""
    num, size = 300, 4096
    draws = normals(units(num), "noise", (size,)).double().numpy()
    correlation = np.corrcoef(draws)[np.triu_indices(num, 1)] * np.sqrt(size)
    assert np.abs(correlation).max() < 5
    assert abs(correlation.mean()) < 5 / np.sqrt(len(correlation))
    assert abs(correlation.std() - 1) < 0.02
    total = num * size
    assert abs(draws.mean()) < 5 / np.sqrt(total)
    assert abs((draws**2).mean() - 1) < 5 * np.sqrt(2 / total)
    assert abs((draws**4).mean() - 3) < 5 * np.sqrt(96 / total)
    # shifted against each other: no stream is another one, later
    shifted = np.corrcoef(draws[:-1, :-1], draws[1:, 1:])[: num - 1, num - 1 :]
    assert np.abs(np.diag(shifted)).max() * np.sqrt(size) < 5


def test_numpy_streams_are_named_too() -> None:
    first = numpy_stream(0, "bootstrap").random(4)
    np.testing.assert_array_equal(first, numpy_stream(0, "bootstrap").random(4))
    assert not np.array_equal(first, numpy_stream(0, "test").random(4))
    assert not np.array_equal(first, numpy_stream(1, "bootstrap").random(4))


def test_global_state_neither_matters_nor_moves() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    expected = normals(units(2), "noise", (5,))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(normals(units(2), "noise", (5,)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_canary_is_the_same_in_another_process() -> None:
    code = "from critwin.streams import canary; print(canary())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == canary()
    assert len(canary()) == 16


def test_the_canary_notices_other_normals(monkeypatch: pytest.MonkeyPatch) -> None:
    before = canary()
    monkeypatch.setattr(torch, "randn", lambda *a, out, **k: out.fill_(0.25))
    assert canary() != before


def test_an_unknown_layout_of_the_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Any) -> torch.Tensor:
        return torch.zeros(5056, dtype=torch.uint8)

    class Fake(torch.Generator):
        get_state = other

    monkeypatch.setattr(torch, "Generator", Fake)
    with pytest.raises(CritwinError, match="does not know"):
        stream(1, "x")
