r"""Membership scores that ask the network: denoising loss, PIA, SecMI, forward–reverse.

With ``eps(x, l)`` the noise that the model sees in ``x`` at level ``l``, and RMS the root of the
mean square over coordinates:

- *loss*: ``-mean (eps(alpha x_0 + sigma z, l) - z)^2``, one evaluation.
- *PIA-like*: the model's own noise at the cleanest level, ``e = eps(x_0, l_0)``, takes the place
  of z: ``-|eps(alpha x_0 + sigma e, l) - e|_4``; one evaluation more, shared by all levels.
- *SecMI-like*: x_0 is carried to the level by deterministic steps, one step further and back:
  minus the RMS of what that fails to undo. One path serves all its levels; a level alone costs
  the path up to it and one evaluation.
- *forward–reverse*: noise x_0, reverse, compare; and, with several replicates, how far apart
  the results lie.

"Like", because levels are the model's own and not steps of one scheduler.

Source: Matsumoto et al. (2023), *Membership inference attacks against diffusion models* (loss);
Kong et al. (2024), *An efficient membership inference attack for the diffusion model by proximal
initialization*, eqs. (9)–(10); Duan et al. (2023), *Are diffusion models vulnerable to membership
inference attacks?*, eqs. (9)–(11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._texts import unknown_name
from critwin.audits._scores import Scores
from critwin.errors import InputError
from critwin.experiments.padding import padded_rows, padded_streams
from critwin.experiments.reading import compare_batch, decode_checked
from critwin.levels import alpha_sigma

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from critwin.features.base import Comparison
    from critwin.models.base import Model

    Array = NDArray[np.float64]

__all__ = ["ATTACKS", "Asked", "ask", "check_attacks", "forward_reverse_scores"]

ATTACKS = ("loss", "pia", "secmi")
"""Scores of :func:`ask`."""

_GAP = 1.5  # largest step of the deterministic path, in logsnr
_CLEAN = 8.0  # where a path starts if the model takes any level


class Asked:
    """Images of one experiment, with names that their random streams carry.

    Attributes:
        clean: Clean samples, shape ``(N, *sample_shape)``.
        names: Names of the images, length N.
        conditions: Condition of each, or None.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch.

    Args:
        clean: Clean samples.
        names: Names; ``x000000`` … unless given.
        conditions: Conditions; unconditional unless given.
        seed: Seed.
        batch_size: Number of rows of every batch.
    """

    def __init__(
        self,
        clean: Tensor,
        *,
        names: Sequence[str] | None = None,
        conditions: Sequence[str | None] | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        num = len(clean)
        self.clean = clean
        self.names = [f"x{i:06d}" for i in range(num)] if names is None else list(names)
        self.conditions = [None] * num if conditions is None else list(conditions)
        if len(self.names) != num or len(self.conditions) != num:
            raise InputError("names or conditions do not fit the images", wanted=f"{num} of each")
        self.seed, self.batch_size = seed, batch_size

    def batches(self) -> list[list[int]]:
        """Rows of each batch, in order."""
        rows = list(range(len(self.clean)))
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]


def check_attacks(names: Sequence[str]) -> None:
    """Refuse names that are not among :data:`ATTACKS`.

    Args:
        names: Names of attacks that ask the network.

    Raises:
        InputError: If one is unknown.
    """
    if absent := [name for name in names if name not in ATTACKS]:
        raise unknown_name("attack", absent[0], ATTACKS)
    if twice := [name for name in ATTACKS if list(names).count(name) > 1]:
        raise InputError("an attack comes twice", got=twice[0], wanted="every attack once")


def ask(
    model: Model,
    images: Asked,
    logsnr: ArrayLike,
    *,
    attacks: Sequence[str] = ATTACKS,
    replicates: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Scores]:
    """Scores from single predictions of the model.

    Args:
        model: A model with ``predict``.
        images: The images.
        logsnr: Levels that the model has, decreasing, shape ``(L,)``.
        attacks: Any of :data:`ATTACKS`.
        replicates: Fresh noises of an image at a level, for the loss.
        progress: Called with the number of images done and in all.

    Returns:
        Attack -> scores of the N images.

    Raises:
        InputError: If an attack is unknown, or the model does not predict.
    """
    import torch

    check_attacks(attacks)
    if not callable(getattr(model, "predict", None)):
        raise InputError(
            f"model {model.name!r} does not show its predictions",
            wanted="a model with predict(noisy, logsnr, conditions)",
            next_step="use forward-reverse scores",
        )
    levels = np.asarray(logsnr, dtype=np.float64).reshape(-1)
    path, at = _path(model, levels)
    num, size = len(images.clean), {"loss": replicates, "pia": 1, "secmi": 1}
    out = {name: np.full((num, len(levels), size[name]), np.nan) for name in attacks}
    done = 0
    for rows in images.batches():
        fill = padded_rows(len(rows), images.batch_size)
        clean = images.clean[rows][fill].to(torch.float32)
        conditions = [images.conditions[rows[i]] for i in fill]
        see = _Seeing(model, conditions)
        with torch.no_grad():
            if "loss" in attacks:
                for j, level in enumerate(levels.tolist()):
                    for k in range(replicates):
                        streams = padded_streams(
                            [(images.names[row], level, k) for row in rows],
                            images.batch_size,
                            images.seed,
                        )
                        noisy = model.noise(clean, level, streams)
                        out["loss"][rows, j, k] = _loss(see, clean, noisy, level)[: len(rows)]
            if "pia" in attacks:
                out["pia"][rows, :, 0] = _pia(see, clean, levels, path[0])[: len(rows)]
            if "secmi" in attacks:
                errors = _secmi(see, clean, path)
                out["secmi"][rows, :, 0] = errors[: len(rows)][:, at]
        done += len(rows)
        if progress is not None:
            progress(done, num)
    ones = np.ones(len(levels))
    price: dict[str, Array] = {"loss": ones, "pia": ones, "secmi": at.astype(np.float64) + 2.0}
    return {
        name: Scores(
            kind=name,
            logsnr=levels,
            values=out[name],
            evaluations=price[name],
            shared=1 if name == "pia" else 0,
        )
        for name in attacks
    }


def forward_reverse_scores(
    model: Model,
    images: Asked,
    logsnr: ArrayLike,
    comparisons: Sequence[Comparison] = (),
    *,
    replicates: int = 1,
    steps: int | None = None,
    reversal: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Scores]:
    """Scores from noising and reversing the images, without labels.

    Args:
        model: The model.
        images: The images.
        logsnr: Levels that the model has, decreasing, shape ``(L,)``.
        comparisons: Distances of source and result; the RMS distance ``pixels`` is always there.
        replicates: Fresh noises and reversals of an image at a level.
        steps: Steps of the whole schedule; the model's own unless given.
        reversal: How to reverse; the model's first way unless given.
        progress: Called with the number of images done and in all.

    Returns:
        ``"forward-reverse pixels"``, one of each number of each comparison, and with several
        replicates ``"forward-reverse spread"``: minus the RMS distance between replicates.
    """
    import torch

    from critwin.experiments.spec import choose_reversal

    levels = np.asarray(logsnr, dtype=np.float64).reshape(-1)
    way = choose_reversal(model, reversal)
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    num = len(images.clean)
    out: dict[str, Array] = {}
    spread = np.full((num, len(levels), 1), np.nan)
    done = 0
    for rows in images.batches():
        fill = padded_rows(len(rows), images.batch_size)
        clean = images.clean[rows][fill].to(torch.float32)
        conditions = [images.conditions[rows[i]] for i in fill]
        with torch.no_grad():
            source, _ = decode_checked(model, clean)
            for j, level in enumerate(levels.tolist()):
                results = []
                for k in range(replicates):
                    streams = padded_streams(
                        [(images.names[row], level, k) for row in rows],
                        images.batch_size,
                        images.seed,
                    )
                    noisy = model.noise(clean, level, streams)
                    x = model.denoise(noisy, level, conditions, streams, reversal=way, **options)
                    result, _ = decode_checked(model, x)
                    results.append(result[: len(rows)].float())
                    found = dict(compare_batch(comparisons, source, result, len(rows)))
                    found["pixels"] = _rms(source[: len(rows)].float() - results[-1])
                    for name, value in found.items():
                        shape = (num, len(levels), replicates)
                        table = out.setdefault(name, np.full(shape, np.nan))
                        table[rows, j, k] = -value
                if replicates > 1:
                    stack = torch.stack(results)
                    centred = stack - stack.mean(dim=0)
                    square = centred.flatten(2).square().mean(dim=2).sum(dim=0) / (replicates - 1)
                    spread[rows, j, 0] = -np.sqrt(2.0 * square.cpu().numpy().astype(float))
        done += len(rows)
        if progress is not None:
            progress(done, num)
    price = np.array([_price(model, level, steps, way) for level in levels.tolist()])
    scores = [
        Scores(kind=f"forward-reverse {name}", logsnr=levels, values=table, evaluations=price)
        for name, table in sorted(out.items(), key=lambda item: item[0] != "pixels")
    ]
    if replicates > 1:
        scores.append(
            Scores(
                kind="forward-reverse spread",
                logsnr=levels,
                values=spread,
                evaluations=price * replicates,
            )
        )
    return scores


class _Seeing:
    """The noise that a model sees, for one batch of conditions."""

    def __init__(self, model: Model, conditions: Sequence[str | None]) -> None:
        self._model, self._conditions = model, conditions

    def __call__(self, x_t: Tensor, logsnr: float) -> tuple[Tensor, Tensor]:
        """The noise and the clean sample."""
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        x_0: Tensor = self._model.predict(x_t, logsnr, self._conditions)  # type: ignore[attr-defined]
        x_0 = x_0.to(x_t)
        return (x_t - alpha * x_0) / sigma, x_0


def _loss(see: _Seeing, clean: Tensor, noisy: Tensor, logsnr: float) -> Array:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    _, x_0 = see(noisy, logsnr)
    # eps - z = alpha (x_0 - prediction) / sigma, without the difference of large numbers
    error = (alpha / sigma) * (x_0 - clean.to(x_0))
    return -_numpy(error.flatten(1).square().mean(dim=1))


def _pia(see: _Seeing, clean: Tensor, levels: Array, first: float) -> Array:
    eps, _ = see(clean, first)
    out = []
    for level in levels.tolist():
        alpha, sigma = (float(v) for v in alpha_sigma(level))
        again, _ = see(alpha * clean.to(eps) + sigma * eps, level)
        out.append(-_numpy((again - eps).flatten(1).pow(4).mean(dim=1).pow(0.25)))
    return np.stack(out, axis=1)


def _secmi(see: _Seeing, clean: Tensor, path: Array) -> Array:
    """Minus the error of one step on and back at every node but the last, shape ``(N, P - 1)``."""
    x, out = clean, []
    eps, x_0 = see(x, float(path[0]))
    for here, there in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        alpha, sigma = (float(v) for v in alpha_sigma(there))
        on = alpha * x_0 + sigma * eps
        eps_on, x_0_on = see(on, there)
        alpha, sigma = (float(v) for v in alpha_sigma(here))
        back = alpha * x_0_on + sigma * eps_on
        out.append(-_rms(back - x.to(back)))
        x, eps, x_0 = on, eps_on, x_0_on
    return np.stack(out, axis=1)


def _path(model: Model, levels: Array) -> tuple[Array, NDArray[np.int64]]:
    """Nodes of the deterministic path, noise growing, and where the levels stand among them."""
    grid = None if model.levels is None else np.asarray(model.levels, dtype=np.float64)
    first = max(_CLEAN, float(levels[0])) if grid is None else float(grid.max())
    wanted = sorted({first, *levels.tolist()}, reverse=True)
    low = -np.inf if grid is None else float(grid.min())
    wanted.append(max(wanted[-1] - _GAP / 2.0, low))
    nodes: list[float] = [wanted[0]]
    for level in wanted[1:]:
        parts = int(np.ceil((nodes[-1] - level) / _GAP))
        nodes += np.linspace(nodes[-1], level, max(parts, 1) + 1)[1:].tolist()
    path = np.array(nodes)
    if grid is not None:
        path = grid[np.abs(grid[:, None] - path[None]).argmin(axis=0)]
    at = np.abs(path[:-1, None] - levels[None]).argmin(axis=0)
    return path, at.astype(np.int64)


def _price(model: Model, logsnr: float, steps: int | None, reversal: str) -> float:
    tell = getattr(model, "num_evaluations", None)
    if tell is None:
        return float("nan")
    return float(tell(logsnr, steps=steps, reversal=reversal, guidance=None))


def _rms(difference: Tensor) -> Array:
    return np.sqrt(_numpy(difference.flatten(1).square().mean(dim=1)))


def _numpy(values: Tensor) -> Array:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)
