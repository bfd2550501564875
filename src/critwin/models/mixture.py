"""A Gaussian mixture as a model: everything an experiment measures on it is known exactly.

It denoises in three ways: the exact posterior draw, which needs no steps, and the reverse SDE and
the probability-flow ODE with the exact denoiser. So a sampler is tested against the truth, and an
experiment against :func:`critwin.theory.exact.exact_transitions` or ``ode_transitions``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.models.samplers import Schedule, sample_deterministic, sample_stochastic
from critwin.streams import Draws
from critwin.theory.mixtures import GaussianMixture, posterior_draw, posterior_mean, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.streams import UnitStreams
    from critwin.theory.mixtures import LabelledPoints

__all__ = ["MixtureModel"]


class MixtureModel:
    """A Gaussian mixture that experiments can draw from, noise and denoise. Float64 throughout.

    Attributes:
        name: Name of the model.
        mixture: The law.
        levels: None: it starts from any level.
        sample_shape: ``(D,)``.
        conditions: Names of the components; under one of them, that component alone is the law.
        reversals: ``("posterior", "stochastic", "ode")``.
        schedule: Levels that the samplers visit.
        fingerprint: Digest of the mixture and of the samplers.

    Args:
        mixture: The law.
        steps: Number of steps of the whole schedule, for the two samplers.
        start: Level at which the whole schedule starts, logsnr.
        end: Last level at which the denoiser is called.
        spacing: Spacing of the steps, see :func:`critwin.models.samplers.level_path`.
        order: Order of the samplers, 1 or 2.
        name: Name of the model.

    Raises:
        InputError: If an option cannot be used.
    """

    reversals: tuple[str, ...] = ("posterior", "stochastic", "ode")
    levels: NDArray[np.float64] | None = None

    def __init__(
        self,
        mixture: GaussianMixture,
        *,
        steps: int = 128,
        start: float = -10.0,
        end: float = 12.0,
        spacing: str = "karras",
        order: Literal[1, 2] = 2,
        name: str = "mixture",
    ) -> None:
        if not isinstance(mixture, GaussianMixture):
            raise InputError(
                "not a mixture", got=type(mixture).__name__, wanted="a GaussianMixture"
            )
        if order not in (1, 2):
            raise InputError("unknown order of the sampler", got=order, wanted="1 or 2")
        self.name = name
        self.mixture = mixture
        self.sample_shape: tuple[int, ...] = (mixture.dim,)
        self.conditions: tuple[str, ...] = mixture.names
        self.schedule = Schedule(start=start, end=end, steps=steps, spacing=spacing)
        self._order: Literal[1, 2] = order
        options = repr((mixture.fingerprint, float(start), float(end), steps, spacing, order))
        self.fingerprint = hashlib.sha256(options.encode()).hexdigest()[:16]

    def generate(self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]) -> Tensor:
        """Draw fresh samples, exactly.

        Args:
            conditions: A component a row, or None: any.
            streams: A stream a row.

        Returns:
            Shape ``(N, D)``, float64.

        Raises:
            InputError: If a condition is unknown or the numbers of rows differ.
        """
        return self._generated(conditions, streams).x

    def planted(
        self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]
    ) -> Mapping[str, NDArray[np.str_]]:
        """The components of what :meth:`generate` draws from the same streams.

        Args:
            conditions: A component a row, or None: any.
            streams: A stream a row.

        Returns:
            ``{"component": names}``, shape ``(N,)``.

        Raises:
            InputError: If a condition is unknown or the numbers of rows differ.
        """
        component = self._generated(conditions, streams).component
        return {"component": np.array(self.mixture.names)[component.numpy()]}

    def noise(self, clean: Tensor, logsnr: float, streams: Sequence[UnitStreams]) -> Tensor:
        """Noise clean points to one level, ``alpha x_0 + sigma z``.

        Args:
            clean: Shape ``(N, D)``.
            logsnr: The level.
            streams: A stream a row.

        Returns:
            Shape ``(N, D)``, float64.

        Raises:
            InputError: If shapes do not fit.
        """
        self._check_rows(clean, streams)
        alpha, sigma = (float(v) for v in alpha_sigma(self.schedule.check(logsnr)))
        z = Draws(streams, "noise").normal(self.sample_shape).to(clean.device)
        return alpha * clean.to(torch.float64) + sigma * z.to(torch.float64)

    def denoise(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "posterior",
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Denoise points that are at one level.

        Args:
            noisy: Shape ``(N, D)``.
            logsnr: Their level.
            conditions: A component a row, or None: the whole mixture is the prior.
            streams: A stream a row; the ODE draws nothing.
            reversal: ``"posterior"``, ``"stochastic"`` or ``"ode"``.
            steps: Number of steps of the whole schedule; the posterior draw needs none.
            guidance: Guidance scale, for the two samplers; None or 1: none.

        Returns:
            Clean points, shape ``(N, D)``, float64.

        Raises:
            InputError: If an argument cannot be used.

        Source:
            Li, Karan & Chen (2025), sec. 3, for the posterior draw.
        """
        if reversal not in self.reversals:
            raise InputError(
                "unknown reversal", got=reversal, wanted="one of " + ", ".join(self.reversals)
            )
        self._check_rows(noisy, streams)
        x = noisy.to(torch.float64)
        allowed = self._allowed(conditions, len(noisy)).to(x.device)
        draws = Draws(streams, "reverse")
        if reversal == "posterior":
            if guidance not in (None, 1):
                raise InputError(
                    "guidance needs a sampler: the posterior draw has none",
                    got=guidance,
                    next_step="use reversal 'stochastic' or 'ode'",
                )
            alpha, sigma = (float(v) for v in alpha_sigma(self.schedule.check(logsnr)))
            uniforms = draws.uniform(())
            normals = draws.normal(self.sample_shape)
            return posterior_draw(
                self.mixture,
                x,
                alpha=alpha,
                sigma=sigma,
                normals=normals,
                uniforms=uniforms,
                allowed=allowed,
            ).x

        def denoised(x_t: Tensor, level: float) -> Tensor:
            alpha, sigma = (float(v) for v in alpha_sigma(level))
            x_0 = posterior_mean(self.mixture, x_t, alpha=alpha, sigma=sigma, allowed=allowed)
            if guidance is None or guidance == 1:
                return x_0
            plain = posterior_mean(self.mixture, x_t, alpha=alpha, sigma=sigma)
            return plain + guidance * (x_0 - plain)

        def draw() -> Tensor:
            return draws.normal(self.sample_shape).to(device=x.device, dtype=torch.float64)

        path = self.schedule.path(logsnr, steps)
        if reversal == "ode":
            return sample_deterministic(denoised, x, path, order=self._order)
        return sample_stochastic(denoised, x, path, draw, order=self._order)

    def decode(self, clean: Tensor) -> Tensor:
        """What features read: the points themselves.

        Args:
            clean: Shape ``(N, D)``.

        Returns:
            Shape ``(N, D)``.
        """
        return clean

    def prior(self, feature: str) -> dict[str, float] | None:
        """The model's law of a feature's labels.

        Args:
            feature: Name of the feature.

        Returns:
            The weights of the components for ``"component"``, else None: not known.
        """
        if feature != "component":
            return None
        return dict(zip(self.mixture.names, self.mixture.weights.tolist(), strict=True))

    def num_evaluations(
        self,
        logsnr: float,
        *,
        steps: int | None = None,
        reversal: str = "posterior",
        guidance: float | None = None,
    ) -> int:
        """Calls of the denoiser from one level; 1 for the posterior draw.

        Args:
            logsnr: The level.
            steps: Number of steps of the whole schedule.
            reversal: One of ``reversals``.
            guidance: Guidance scale.

        Returns:
            The number of calls.
        """
        if reversal == "posterior":
            return 1
        return len(self.schedule.path(logsnr, steps)) * (1 if guidance in (None, 1) else 2)

    def _generated(
        self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]
    ) -> LabelledPoints:
        self._check_conditions(conditions, len(streams))
        draws = Draws(streams, "generate")
        uniforms = draws.uniform(())
        normals = draws.normal(self.sample_shape)
        names = self.mixture.names
        component = torch.tensor([-1 if c is None else names.index(c) for c in conditions])
        return sample(
            self.mixture, len(streams), normals=normals, uniforms=uniforms, component=component
        )

    def _allowed(self, conditions: Sequence[str | None], num: int) -> Tensor:
        self._check_conditions(conditions, num)
        names = self.mixture.names
        return torch.tensor([[c is None or c == name for name in names] for c in conditions])

    def _check_conditions(self, conditions: Sequence[str | None], num: int) -> None:
        if len(conditions) != num:
            raise InputError("conditions do not fit", got=len(conditions), wanted=str(num))
        for name in conditions:
            if name is not None and name not in self.mixture.names:
                raise InputError(
                    f"model {self.name!r} does not know this condition",
                    got=name,
                    wanted="one of " + ", ".join(self.mixture.names),
                )

    def _check_rows(self, points: Tensor, streams: Sequence[UnitStreams]) -> None:
        wanted = (len(streams), *self.sample_shape)
        if tuple(points.shape) != wanted:
            raise InputError(
                "points have the wrong shape", got=tuple(points.shape), wanted=str(wanted)
            )
