"""Adaptive Gauss–Kronrod quadrature of many integrals at once.

Theory needs thousands of short integrals (levels x labels) whose integrands may have steps much
narrower than the interval. Each is cut into panels; all panels of all integrals are evaluated
together, and only those whose 10- and 21-point rules disagree are halved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["integrate_products"]

# QUADPACK's qk21: nodes >= 0 and their weights; the odd entries are the 10-point Gauss nodes
_NODES = (
    0.995657163025808080735527280689003,
    0.973906528517171720077964012084452,
    0.930157491355708226001207180059508,
    0.865063366688984510732096688423493,
    0.780817726586416897063717578345042,
    0.679409568299024406234327365114874,
    0.562757134668604683339000099272694,
    0.433395394129247190799265943165784,
    0.294392862701460198131126603103866,
    0.148874338981631210884826001129720,
    0.0,
)
_KRONROD = (
    0.011694638867371874278064396062192,
    0.032558162307964727478818972459390,
    0.054755896574351996031381300244580,
    0.075039674810919952767043140916190,
    0.093125454583697605535065465083366,
    0.109387158802297641899210590325805,
    0.123491976262065851077958109831074,
    0.134709217311473325928054001771707,
    0.142775938577060080797094273138717,
    0.147739104901338491374841515972068,
    0.149445554002916905664936468389821,
)
_GAUSS = (
    0.066671344308688137593568809893332,
    0.149451349150580593145776339657697,
    0.219086362515982043995534934228163,
    0.269266719309996355091226921569469,
    0.295524224714752870173892994651338,
)
_TOLERANCE = 1e-13
_MAX_HALVINGS = 50
_MAX_ELEMENTS = 1 << 22


def _rule() -> tuple[Array, Array]:
    """Nodes (21,) and the two weight vectors (2, 21): Kronrod, and Gauss padded with zeros."""
    half = np.array(_NODES)
    kronrod = np.array(_KRONROD)
    gauss = np.zeros(11)
    gauss[1::2] = _GAUSS
    nodes = np.concatenate([-half, half[-2::-1]])
    return nodes, np.stack([np.concatenate([w, w[-2::-1]]) for w in (kronrod, gauss)])


def integrate_products(
    function: Callable[[Array, NDArray[np.int64]], tuple[Array, Array]],
    edges: Sequence[Array],
    shape: tuple[int, int],
    *,
    tolerance: float = _TOLERANCE,
) -> Array:
    """Integrals of ``left_a(z) right_b(z)`` for M different pairs of vector-valued functions.

    Args:
        function: Takes points ``z (P, n)`` and ``owner (P,)``, the number of the integral that
            each row of points belongs to; returns ``left (P, n, A)`` and ``right (P, n, B)``.
        edges: For each of the M integrals, increasing ends of its first panels. Put one wherever
            the integrand may be narrow: a bump between two nodes goes unseen, a step does not.
        shape: ``(A, B)``.
        tolerance: On the difference of the two rules, for every panel.

    Returns:
        Shape ``(M, A, B)``. The absolute error is far below the tolerance a panel.
    """
    nodes, weights = _rule()
    result = np.zeros((len(edges), *shape))
    low = np.concatenate([e[:-1] for e in edges])
    high = np.concatenate([e[1:] for e in edges])
    owner = np.repeat(np.arange(len(edges)), [len(e) - 1 for e in edges])
    rows, columns = shape
    chunk = max(1, _MAX_ELEMENTS // (len(nodes) * (rows * columns + rows + columns)))
    for halving in range(_MAX_HALVINGS + 1):
        split = np.zeros(len(low), dtype=bool)
        for start in range(0, len(low), chunk):
            part = slice(start, start + chunk)
            radius = 0.5 * (high[part] - low[part])
            z = 0.5 * (high[part] + low[part])[:, None] + radius[:, None] * nodes
            left, right = function(z, owner[part])
            left = left * radius[:, None, None]
            fine, coarse = (
                np.matmul((left * w[:, None]).transpose(0, 2, 1), right) for w in weights
            )
            if halving < _MAX_HALVINGS:
                split[part] = np.abs(fine - coarse).max(axis=(1, 2)) > tolerance
            done: Any = ~split[part]
            np.add.at(result, owner[part][done], fine[done])
        if not split.any():
            break
        low, high, owner = low[split], high[split], owner[split]
        middle = 0.5 * (low + high)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        owner = np.concatenate([owner, owner])
    return result
