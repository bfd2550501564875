r"""Mixtures whose components are products of one-dimensional log-concave densities.

``p = sum_k w_k prod_d p_{k,d}``; what is computed of them is in
:mod:`~critwin.theory.log_concave.posteriors`, :mod:`~critwin.theory.log_concave.transitions` and
:mod:`~critwin.theory.log_concave.distances`.

Source: Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from critwin.errors import InputError
from critwin.theory._law import GaussianMixture, check_names, check_weights
from critwin.theory.log_concave.densities import Density
from critwin.theory.log_concave.families import gaussian

__all__ = ["ProductMixture", "as_product"]


@dataclass(frozen=True, eq=False, init=False)
class ProductMixture:
    """A mixture of products of one-dimensional densities. Frozen.

    Attributes:
        weights: Prior over components, shape ``(K,)``, float64.
        components: The D densities of each of K components.
        names: Names of the components, length K.
        means: Shape ``(K, D)``, float64.
        variances: Of every coordinate, shape ``(K, D)``, float64.
        m: Strong log-concavity of every component, ``min_d inf V_d''``, shape ``(K,)``, float64.
    """

    weights: torch.Tensor
    components: tuple[tuple[Density, ...], ...]
    names: tuple[str, ...]
    means: torch.Tensor
    variances: torch.Tensor
    m: torch.Tensor

    def __init__(
        self,
        *,
        components: Sequence[Density | Sequence[Density]],
        weights: Any = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Check and store a mixture.

        Args:
            components: K components, each a density (D = 1) or a list of D densities.
            weights: Shape ``(K,)``; equal unless given.
            names: Distinct names; ``"0"``, ``"1"``, … unless given.

        Raises:
            InputError: If there is no component, the numbers of coordinates differ, something is
                not a density, weights are not a law, or names are not distinct.
        """
        rows = tuple(
            tuple(c) if isinstance(c, list | tuple) else (c,) for c in _listed(components)
        )
        for item in (item for row in rows for item in row):
            if not isinstance(item, Density):
                raise InputError(
                    "a coordinate is not a density",
                    got=type(item).__name__,
                    wanted="a Density, e.g. skew_normal(location, scale, shape)",
                )
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise InputError(
                "components do not fit",
                got=f"{[len(row) for row in rows]} coordinates",
                wanted="at least one component, all with the same number of coordinates",
            )
        fields: dict[str, Any] = {
            "weights": check_weights(weights, len(rows)),
            "components": rows,
            "names": check_names(names, len(rows)),
            "means": _table(rows, "mean"),
            "variances": _table(rows, "var"),
            "m": _table(rows, "m").min(dim=1).values,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """Number of coordinates D."""
        return len(self.components[0])

    @property
    def num_components(self) -> int:
        """Number of components K."""
        return len(self.components)

    @property
    def fingerprint(self) -> str:
        """Digest of names, weights and of every density on its own panels."""
        digest = hashlib.sha256(repr(self.names).encode() + self.weights.numpy().tobytes())
        for row in self.components:
            for item in row:
                inside = 0.5 * (item.edges[1:] + item.edges[:-1])
                digest.update(item.edges.tobytes() + item.log_density(inside).tobytes())
        return digest.hexdigest()[:16]

    def indices(self, names: str | Sequence[str]) -> list[int]:
        """Positions of components by name.

        Args:
            names: A name or several.

        Returns:
            Their indices, in the order given.

        Raises:
            InputError: If a name is unknown.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self.names:
                raise InputError(
                    "unknown component", got=name, wanted=f"some of {', '.join(self.names)}"
                )
        return [self.names.index(name) for name in wanted]


def as_product(mixture: GaussianMixture) -> ProductMixture:
    """A Gaussian mixture with diagonal covariances, written as products.

    Args:
        mixture: With isotropic or diagonal covariances, positive.

    Returns:
        The same law.

    Raises:
        InputError: If a covariance is not diagonal, or zero.
    """
    if mixture.kind == "full":
        raise InputError("a full covariance is no product", wanted="diagonal covariances")
    shape = (mixture.num_components, mixture.dim)
    sd = np.sqrt(np.broadcast_to(mixture.eigenvalues.numpy(), shape))
    return ProductMixture(
        components=[
            [gaussian(float(a), float(s)) for a, s in zip(row, spread, strict=True)]
            for row, spread in zip(mixture.means.numpy(), sd, strict=True)
        ],
        weights=mixture.weights,
        names=mixture.names,
    )


def _listed(components: Any) -> list[Any]:
    return [components] if isinstance(components, Density) else list(components)


def _table(rows: tuple[tuple[Density, ...], ...], name: str) -> torch.Tensor:
    return torch.tensor([[getattr(d, name) for d in row] for row in rows], dtype=torch.float64)
