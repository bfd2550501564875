"""The component of a Gaussian mixture that a point belongs to, as a feature.

The posterior ``P(component | x)`` of clean points is exact. Two readings of it are offered:

- the *most probable* component (the default): a function of the point, as any labeller is. Where
  components overlap, transitions of this label differ a little from the exact ones.
- a *drawn* component (``draw=True``): then ``(component, x)`` has exactly the joint law of the
  mixture, and transitions counted with it estimate ``C[i, j] = E_{p^i}[P(j | x_t)]``, the exact
  table, without bias. The draw is a function of the seed and of the point's own numbers, so
  reading a point twice gives the same label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.errors import InputError
from critwin.features._inputs import check_names, to_numpy
from critwin.features.base import Reading
from critwin.features.fingerprints import fingerprint_of
from critwin.streams import seed_of
from critwin.theory.mixtures import GaussianMixture, posterior_probs

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ComponentFeature"]

_POINT_SHARE = 1e-3


class ComponentFeature:
    """The component, or the group of components, of a Gaussian mixture.

    Values: ``margin``, the largest probability less the second.

    Args:
        mixture: Law of the clean points.
        groups: Label -> names of components. Components in no group keep their name. All
            components are labels unless given.
        draw: Draw the component from its posterior instead of taking the most probable one.
        seed: Seed of the draws.
        name: Name of the feature.

    Raises:
        InputError: If a component is unknown or in two groups, or a name cannot be used.
    """

    def __init__(
        self,
        *,
        mixture: GaussianMixture,
        groups: Mapping[str, Sequence[str]] | None = None,
        draw: bool = False,
        seed: int = 0,
        name: str = "component",
    ) -> None:
        self.mixture = mixture
        self.name = name
        self.draw = bool(draw)
        self.seed = int(seed)
        label_of = _label_of(mixture.names, groups or {})
        self.labels: tuple[str, ...] = check_names(name, list(dict.fromkeys(label_of)))
        self._column = np.array([self.labels.index(label) for label in label_of])
        self._sigma = _reading_sigma(mixture)

    @property
    def fingerprint(self) -> str:
        """Digest of the mixture, the groups and the options."""
        return fingerprint_of(
            "component/1",
            name=self.name,
            mixture=self.mixture.fingerprint,
            labels=self.labels,
            column=self._column,
            draw=[self.draw, self.seed if self.draw else 0],
        )

    @property
    def prior(self) -> dict[str, float]:
        """The mixture's own weight of every label."""
        weights = self.mixture.weights.numpy()
        return {
            label: float(weights[self._column == j].sum()) for j, label in enumerate(self.labels)
        }

    def read(self, samples: Any) -> Reading:
        """Read the component of points, shape ``(N, D)``.

        Args:
            samples: Clean points, NumPy or torch.

        Returns:
            The reading; ``probs`` is the exact posterior of the labels. A point that no component
            can have produced (only possible if components are points) is given to the nearest.

        Raises:
            InputError: If the points do not have the dimension of the mixture.
        """
        points = np.ascontiguousarray(to_numpy(samples), dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.mixture.dim:
            raise InputError(
                "points do not fit the mixture",
                got=f"shape {points.shape}",
                wanted=f"(N, {self.mixture.dim})",
            )
        per_component = posterior_probs(
            self.mixture, torch.from_numpy(points), alpha=1.0, sigma=self._sigma
        ).numpy()
        probs = np.zeros((len(points), len(self.labels)))
        for k, j in enumerate(self._column):
            probs[:, j] += per_component[:, k]
        if self.draw:
            below = np.cumsum(probs, axis=1)[:, :-1]
            indices = (self._uniforms(points)[:, None] >= below).sum(axis=1)
        else:
            indices = probs.argmax(axis=1)
        ordered = np.sort(probs, axis=1)
        margin = ordered[:, -1] - (ordered[:, -2] if len(self.labels) > 1 else 0.0)
        return Reading(indices=indices.astype(np.int64), probs=probs, values={"margin": margin})

    def _uniforms(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """One uniform on [0, 1) a row, named by the seed and the numbers in the row."""
        rows = points + 0.0  # -0.0 and 0.0 are one point
        names = [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]
        draws = [seed_of(self.seed, "component", name) for name in names]
        return np.array([draw >> 10 for draw in draws], dtype=np.float64) / 2.0**53


def _label_of(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Label of every component, in the order of the components."""
    owner: dict[str, str] = {}
    for label, members in groups.items():
        for member in [members] if isinstance(members, str) else members:
            if member not in names:
                raise InputError(
                    f"group {label!r} names an unknown component",
                    got=member,
                    wanted=f"some of {', '.join(names)}",
                )
            if member in owner:
                raise InputError(
                    f"component {member!r} is in two groups", got=f"{owner[member]}, {label}"
                )
            owner[member] = label
    for label in groups:
        if label in names and owner.get(label, label) != label:
            raise InputError(f"group {label!r} has the name of a component of another group")
        if label in names and label not in owner:
            raise InputError(f"group {label!r} has the name of an ungrouped component")
    return [owner.get(name, name) for name in names]


def _reading_sigma(mixture: GaussianMixture) -> float:
    """Noise assumed on clean points: none, or a little if components are points.

    A point has no density. A thousandth of the least distance between different means tells
    points apart and leaves room for rounding.
    """
    if float(mixture.eigenvalues.min()) > 0:
        return 0.0
    distances = torch.pdist(mixture.means)
    positive = distances[distances > 0]
    return _POINT_SHARE * (float(positive.min()) if len(positive) else 1.0)
