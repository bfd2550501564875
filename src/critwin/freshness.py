"""Is what the noisiest level returns a fresh sample? A test of the reversal from nothing.

Where next to no signal is left, the forward–reverse image of a sample is a new sample of the
model. If its label has another law, the reversal and the generation differ, and the chance level
that curves are held against is in doubt. Two cases, both exact for any number of sources:

* The sources are the model's own samples: under the null a source's label and those of its
  results are exchangeable, and which of them is the source's is permuted.
* The prior is known: counts of the results are compared with draws from it.

The statistic is Pearson's, in both cases.

Source: Phipson & Smyth (2010), *Permutation p-values should never be zero*, eq. (2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.levels import alpha_sigma, ou_time
from critwin.significance import permutation_p
from critwin.streams import numpy_stream
from critwin.transitions import NO_SIGNAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.transitions import Transitions

__all__ = ["FreshTest", "fresh_test"]

_MOST_NUMBERS = 1 << 25  # drawn for one test
_FEWEST = 199  # permutations
_SIZE = 0.01  # of the test, in words: a report has many


@dataclass(frozen=True, kw_only=True)
class FreshTest:
    """Whether results at the noisiest level are fresh samples.

    Attributes:
        logsnr: The level.
        alpha: What is left of the clean sample there.
        p: P-value of the hypothesis that they are.
        num_results: Number of results that tell.
        is_prior_known: Whether they were held against a known prior, not against the sources.
    """

    logsnr: float
    alpha: float
    p: float
    num_results: int
    is_prior_known: bool

    def in_words(self) -> str:
        """One sentence for a report."""
        t = float(ou_time(self.logsnr))
        of = "the model's prior" if self.is_prior_known else "the sources, which are fresh samples"
        value = f"{self.p:.2g}" if self.p >= 0.001 else "below .001"
        verdict = (
            "labels of the results cannot be told from those of"
            if self.p > _SIZE
            else "labels of the results differ from those of"
        )
        doubt = "" if self.p > _SIZE else "; what curves fall to, chance, is in doubt"
        return (
            f"at t = {t:.3g}, where next to no signal is left (alpha = {self.alpha:.2g}), the "
            f"{verdict} {of} (p = {value}, {self.num_results:,} results){doubt}"
        )


def fresh_test(
    tr: Transitions, *, num_permutations: int = 1999, seed: int = 0
) -> FreshTest | None:
    """Hold the labels at the noisiest level against those of fresh samples.

    Args:
        tr: Counted transitions of the forward–reverse experiment. (A clone keeps the noise of its
            source, and its noisiest level returns the source.)
        num_permutations: Number of random permutations, or of draws from a known prior; fewer if
            there are very many results.
        seed: Seed of them.

    Returns:
        The test; None where no level is so noisy (``alpha < .01``), sources are neither fresh
        samples nor equally weighted, or there is no result.

    Raises:
        InputError: If the table is not counted.
    """
    if tr.counts is None or tr.source_before is None:
        raise InputError("only counted transitions can be tested", got=tr.kind)
    alpha = float(alpha_sigma(float(tr.logsnr[-1]))[0])
    last = tr.counts[:, -1]
    total = last.sum(axis=1)
    if not alpha < NO_SIGNAL or tr.weights is None or tr.source_weight is not None:
        return None
    read = total > 0
    num_results = int(total.sum())
    if num_results == 0:
        return None
    size = int(read.sum()) * last.shape[1]
    num = max(_FEWEST, min(num_permutations, _MOST_NUMBERS // size))
    generator = numpy_stream(seed, "fresh-test", tr.feature)
    if tr.is_weights_estimated:
        label_of = tr.before_in_after[tr.source_before[read]]
        observed, drawn = _exchanged(last[read], label_of, num, generator)
    elif tr.fresh is not None:
        expected = np.asarray(tr.fresh, dtype=np.float64) * num_results
        observed = float(_pearson(last.sum(axis=0) - expected, expected))
        counts = generator.multinomial(num_results, expected / expected.sum(), size=num)
        drawn = _pearson(counts - expected, expected)
    else:
        return None
    return FreshTest(
        logsnr=float(tr.logsnr[-1]),
        alpha=alpha,
        p=permutation_p(observed, drawn),
        num_results=num_results,
        is_prior_known=not tr.is_weights_estimated,
    )


def _exchanged(
    counts: NDArray[np.int64],
    label_of: NDArray[np.int64],
    num: int,
    generator: np.random.Generator,
) -> tuple[float, NDArray[np.float64]]:
    """The statistic, and under exchanges of a source's label with one of its results."""
    num_sources, num_labels = counts.shape
    own = np.zeros((num_sources, num_labels))
    own[np.arange(num_sources), label_of] = 1.0
    both = counts + own
    size = both.sum(axis=1)
    scale = (both / size[:, None]).sum(axis=0)
    # a result counts 1 / m, so that sources weigh the same before and after
    rest = 1.0 / (size - 1.0)

    def statistic(chosen: NDArray[np.float64]) -> float:
        gap = chosen.sum(axis=0) - ((both - chosen) * rest[:, None]).sum(axis=0)
        return float(_pearson(gap, scale))

    edges = np.cumsum(both, axis=1)
    drawn = np.empty(num)
    for n in range(num):
        pick = (generator.random((num_sources, 1)) * size[:, None] >= edges).sum(axis=1)
        chosen = np.zeros_like(own)
        chosen[np.arange(num_sources), np.minimum(pick, num_labels - 1)] = 1.0
        drawn[n] = statistic(chosen)
    return statistic(own), drawn


def _pearson(gap: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares in units of what is expected; infinite where nothing was expected."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(gap == 0, 0.0, gap**2 / expected)
    return np.asarray(parts.sum(axis=-1))
