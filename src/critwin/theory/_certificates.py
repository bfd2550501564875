r"""Certificate at any level: how far the forward–reverse image of ``S_init`` is from ``S_target``.

``TV(C_t[S_init, .], C_0[S_target, .]) <= TV(p^{S_init,t}, p^{S_target})
<= TV(p_t^{S_init}, p_t^{S_target}) + leak_t(S_target)``.

The left side is data processing (the label of the image), the right side is the triangle
inequality through ``p^{S_target,t}``: the reversal is a Markov kernel, and returns all but the
leak.

Source: Li, Karan & Chen (2025), proof of Thm 2 and Lemma 3; derived in
docs/theory/windows_by_distance.md, eqs (8) and (9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.estimates import plain
from critwin.levels import ou_time
from critwin.theory._sides import check_inside, named_set
from critwin.theory._tables import check_levels
from critwin.theory.distances import DistanceCurve, total_variation
from critwin.theory.exact import exact_transitions
from critwin.transitions import label_set_row

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = ["Certificate", "certificate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """Bounds on ``TV(p^{S_init,t}, p^{S_target})`` level by level.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        lower: Lower bounds, shape ``(L,)``.
        upper: Upper bounds, certified whatever the mixture, shape ``(L,)``.
        lower_stderr: Standard errors of the lower bounds, 0 where label rows are exact.
        distance: The distance of the noised sets.
        leak: Upper bounds on ``leak_t(S_target)``, exact where label rows are, shape ``(L,)``.
        lower_how: How the lower bounds were obtained.
        upper_how: How the upper bounds were obtained.
    """

    logsnr: Array
    lower: Array
    upper: Array
    lower_stderr: Array
    distance: DistanceCurve
    leak: Array
    lower_how: str
    upper_how: str

    @property
    def t(self) -> Array:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    @property
    def is_certified(self) -> bool:
        """Whether both sides hold without sampling error."""
        return not bool(self.lower_stderr.any())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        result: dict[str, Any] = plain(self)
        return {"t": plain(self.t), **result}


def certificate(
    mixture: Any,
    *,
    init: str | Sequence[str],
    target: str | Sequence[str],
    logsnr: ArrayLike,
    transitions_at: Callable[[Array], Transitions] | None = None,
    num_samples: int = 1 << 14,
    seed: int = 0,
) -> Certificate:
    """Both sides of ``TV(p^{S_init,t}, p^{S_target})`` at any levels.

    Args:
        mixture: The mixture.
        init: Components of S_init, a name or several.
        target: Components of S_target that contain them.
        logsnr: Levels, shape ``(L,)``, in any order.
        transitions_at: Function from levels (strictly decreasing, the first ``+inf``) to
            Transitions between components; exact ones of Gaussian mixtures unless given.
        num_samples: Quasi-random points where a table is not a quadrature.
        seed: Seed of the scrambles.

    Returns:
        The certificate.

    Raises:
        InputError: If a set is empty, unknown, or not inside the other.

    Source:
        Li, Karan & Chen (2025), proof of Thm 2.
    """
    levels = check_levels(logsnr)
    inner = named_set(mixture.names, init, "S_init")
    outer = named_set(mixture.names, target, "S_target")
    check_inside(mixture.names, inner, outer, "S_init", "S_target")
    names = tuple(mixture.names)
    inside, whole = [names[k] for k in inner], [names[k] for k in outer]
    rest = [name for name in names if name not in whole]
    distance = total_variation(mixture, inside, whole, levels, precision="bracket")
    table_at = transitions_at or partial(
        exact_transitions, mixture, num_samples=max(num_samples, 16), seed=seed
    )
    order, inverse = np.unique(-np.concatenate([[np.inf], levels]), return_inverse=True)
    table = table_at(-order)
    now = inverse[1:]
    start = label_set_row(table, outer)[inverse[0]]
    rows = label_set_row(table, inner)[now]
    lower = 0.5 * np.abs(rows - start).sum(axis=1)
    stderr = np.zeros(len(levels))
    if table.stderr is not None:
        weights = np.asarray(table.weights)[inner] / np.asarray(table.weights)[inner].sum()
        # of the sum over labels, at worst: errors of all entries in one direction
        stderr = 0.5 * np.einsum("i,lij->l", weights, table.stderr[:, inner])[now]
    leak, leak_how = np.zeros(len(levels)), "nothing is outside S_target"
    if rest:
        if table.kind == "exact":
            leak = np.clip(1.0 - label_set_row(table, outer)[now][:, outer].sum(axis=1), 0.0, 1.0)
            leak_how = "the exact leak"
        else:
            apart = total_variation(mixture, whole, rest, levels, precision="bracket")
            weight = float(np.asarray(table.weights)[outer].sum())
            odds = max(1.0, (1.0 - weight) / weight)
            leak = np.minimum(odds * (1.0 - apart.lower), 1.0 - weight)
            leak_how = f"a leak of at most max(1, W)(1 - TV), TV by {apart.lower_how}"
    upper = np.minimum(distance.upper + leak, 1.0)
    return Certificate(
        logsnr=levels,
        lower=np.minimum(lower, upper),
        upper=upper,
        lower_stderr=stderr,
        distance=distance,
        leak=leak,
        lower_how=f"label rows, {table.kind}",
        upper_how=f"distance ({distance.upper_how}) plus {leak_how}",
    )
