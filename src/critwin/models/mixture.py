"""A Gaussian mixture as a model: everything an experiment measures on it is known exactly.

It denoises in three ways: the exact posterior draw, which needs no steps, and the reverse SDE and
the probability-flow ODE with the exact denoiser. So a sampler is tested against the truth, and an
experiment against :func:`critwin.theory.exact.exact_transitions` or ``ode_transitions``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.models.samplers import Schedule, advance, step_coefficients
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
        purpose: str = "reverse",
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
            purpose: Purpose of the streams.

        Returns:
            Clean points, shape ``(N, D)``, float64.

        Raises:
            InputError: If an argument cannot be used.

        Source:
            Li, Karan & Chen (2025), sec. 3, for the posterior draw.
        """
        x, draws = self._checked(noisy, streams, reversal, guidance, purpose)
        if reversal == "posterior":
            return self._posterior(x, self.schedule.check(logsnr), conditions, draws)
        denoised, draw = self._sampler(x, conditions, draws, reversal, guidance)
        path = self.schedule.path(logsnr, steps)
        return denoised(advance(denoised, x, path, draw, order=self._order), float(path[-1]))

    @property
    def start_logsnr(self) -> float:
        """Level at which a generation starts."""
        return self.schedule.start

    def pure_noise(self, streams: Sequence[UnitStreams]) -> Tensor:
        """Draw from the law at ``start_logsnr``, exactly: what is left of the signal is in it.

        Args:
            streams: A stream a row.

        Returns:
            Shape ``(N, D)``, float64.
        """
        x_0 = self._generated([None] * len(streams), streams).x
        alpha, sigma = (float(v) for v in alpha_sigma(self.start_logsnr))
        z = Draws(streams, "start").normal(self.sample_shape)
        return alpha * x_0 + sigma * z.to(torch.float64)

    def partial(
        self,
        noisy: Tensor,
        logsnr: float,
        stop: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "posterior",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Reverse from one level to a cleaner one and return the noisy points there.

        The posterior reversal is exact: ``x_0`` from its posterior, then the Gaussian bridge
        ``x_stop | x_0, x_t``.

        Args:
            noisy: Shape ``(N, D)``.
            logsnr: Their level.
            stop: A larger level.
            conditions: A component a row, or None.
            streams: A stream a row.
            reversal: ``"posterior"``, ``"stochastic"`` or ``"ode"``.
            steps: Number of steps of the whole schedule, for the two samplers.
            guidance: Guidance scale, for the two samplers.
            purpose: Purpose of the streams.

        Returns:
            Points at ``stop``, shape ``(N, D)``, float64.

        Raises:
            InputError: If ``stop`` is not cleaner, or an argument cannot be used.

        Source:
            Song et al. (2021), *Denoising diffusion implicit models*, eq. (7), for the bridge.
        """
        x, draws = self._checked(noisy, streams, reversal, guidance, purpose)
        path = self.schedule.between(logsnr, stop, steps)
        if reversal == "posterior":
            x_0 = self._posterior(x, float(path[0]), conditions, draws)
            step = step_coefficients(float(path[0]), float(path[-1]), is_stochastic=True)
            z = draws.normal(self.sample_shape).to(device=x.device, dtype=torch.float64)
            return step.x * x + step.denoised * x_0 + step.noise * z
        denoised, draw = self._sampler(x, conditions, draws, reversal, guidance)
        return advance(denoised, x, path, draw, order=self._order)

    def predict(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        guidance: float | None = None,
    ) -> Tensor:
        """The posterior mean ``E[x_0 | x_t]``, exactly.

        Args:
            noisy: Shape ``(N, D)``.
            logsnr: Their level.
            conditions: A component a row, or None.
            guidance: Guidance scale.

        Returns:
            Shape ``(N, D)``, float64.
        """
        x = noisy.to(torch.float64)
        return self._denoiser(x, conditions, guidance)(x, self.schedule.check(logsnr))

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
        stop: float | None = None,
    ) -> int:
        """Calls of the denoiser from one level; 1 for the posterior draw.

        Args:
            logsnr: The level.
            steps: Number of steps of the whole schedule.
            reversal: One of ``reversals``.
            guidance: Guidance scale.
            stop: Level at which :meth:`partial` stops; None: the clean point.

        Returns:
            The number of calls.
        """
        if reversal == "posterior":
            return 1
        if stop is None:
            num = len(self.schedule.path(logsnr, steps))
        else:
            num = len(self.schedule.between(logsnr, stop, steps)) - 1
        return num * (1 if guidance in (None, 1) else 2)

    def _checked(
        self,
        noisy: Tensor,
        streams: Sequence[UnitStreams],
        reversal: str,
        guidance: float | None,
        purpose: str,
    ) -> tuple[Tensor, Draws]:
        """The points and the open streams of a reversal, its arguments checked."""
        if reversal not in self.reversals:
            raise InputError(
                "unknown reversal", got=reversal, wanted="one of " + ", ".join(self.reversals)
            )
        self._check_rows(noisy, streams)
        if reversal == "posterior" and guidance not in (None, 1):
            raise InputError(
                "guidance needs a sampler: the posterior draw has none",
                got=guidance,
                next_step="use reversal 'stochastic' or 'ode'",
            )
        return noisy.to(torch.float64), Draws(streams, purpose)

    def _posterior(
        self, x: Tensor, logsnr: float, conditions: Sequence[str | None], draws: Draws
    ) -> Tensor:
        """Draw the clean points from their posterior."""
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        uniforms = draws.uniform(())
        normals = draws.normal(self.sample_shape)
        return posterior_draw(
            self.mixture,
            x,
            alpha=alpha,
            sigma=sigma,
            normals=normals,
            uniforms=uniforms,
            allowed=self._allowed(conditions, len(x)).to(x.device),
        ).x

    def _denoiser(
        self, x: Tensor, conditions: Sequence[str | None], guidance: float | None
    ) -> Callable[[Tensor, float], Tensor]:
        """The exact denoiser under conditions, with guidance."""
        allowed = self._allowed(conditions, len(x)).to(x.device)

        def denoised(x_t: Tensor, level: float) -> Tensor:
            alpha, sigma = (float(v) for v in alpha_sigma(level))
            x_0 = posterior_mean(self.mixture, x_t, alpha=alpha, sigma=sigma, allowed=allowed)
            if guidance is None or guidance == 1:
                return x_0
            plain = posterior_mean(self.mixture, x_t, alpha=alpha, sigma=sigma)
            return plain + guidance * (x_0 - plain)

        return denoised

    def _sampler(
        self,
        x: Tensor,
        conditions: Sequence[str | None],
        draws: Draws,
        reversal: str,
        guidance: float | None,
    ) -> tuple[Callable[[Tensor, float], Tensor], Callable[[], Tensor] | None]:
        """The denoiser of a sampler, and what it draws."""

        def draw() -> Tensor:
            return draws.normal(self.sample_shape).to(device=x.device, dtype=torch.float64)

        denoised = self._denoiser(x, conditions, guidance)
        return denoised, None if reversal == "ode" else draw

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
