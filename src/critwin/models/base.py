r"""What a model is to an experiment, and conversions between what networks predict.

All of critwin's models work in the variance-preserving frame ``x = alpha x_0 + sigma z`` with
``alpha^2 + sigma^2 = 1``; a level is a logsnr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from critwin.errors import InputError
from critwin.levels import alpha_sigma

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.streams import UnitStreams

__all__ = [
    "Dataset",
    "Model",
    "Prediction",
    "Trajectories",
    "check_model",
    "trajectories_of",
    "x_0_from_prediction",
]

_ATTRIBUTES = (
    "name",
    "levels",
    "fingerprint",
    "sample_shape",
    "conditions",
    "reversals",
    "generate",
    "noise",
    "denoise",
    "decode",
)
Prediction = Literal["x_0", "eps", "v", "velocity", "sample"]


@runtime_checkable
class Model(Protocol):
    """A model that an experiment can draw from, noise and denoise: N rows, one level a call.

    A row's result depends on its own inputs and streams and on the shape of the batch, never on
    the other rows.

    Attributes:
        name: Its name.
        levels: The logsnr that it can start from, decreasing, or None: any.
        fingerprint: Digest of everything that changes numbers.
        sample_shape: Shape of one clean sample.
        conditions: Conditions that it accepts besides None (unconditional); None: any text.
        reversals: Ways to denoise, the preferred one first: ``"posterior"``, ``"stochastic"``,
            ``"ode"``.

    A model may also have ``prior(feature)``, its law of a feature's labels, label -> weight, or
    None if it does not know; ``dataset()``, clean samples to start from, or None; and
    ``num_evaluations(logsnr, steps=, reversal=, guidance=)``, network calls to denoise a row (with
    ``stop=`` too where it implements :class:`Trajectories`: those of ``partial``).
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def levels(self) -> NDArray[np.float64] | None: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def sample_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def conditions(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def reversals(self) -> tuple[str, ...]: ...  # noqa: D102

    def generate(self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]) -> Tensor:
        """Draw fresh clean samples, one a stream.

        Args:
            conditions: A condition a row, or None.
            streams: A stream a row.

        Returns:
            Shape ``(N, *sample_shape)``.
        """
        ...

    def noise(self, clean: Tensor, logsnr: float, streams: Sequence[UnitStreams]) -> Tensor:
        """Noise clean samples to one level.

        Args:
            clean: Shape ``(N, *sample_shape)``.
            logsnr: The level, one of ``levels``.
            streams: A stream a row.

        Returns:
            ``alpha x_0 + sigma z``, shape ``(N, *sample_shape)``.
        """
        ...

    def denoise(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "stochastic",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Denoise samples that are at one level.

        Args:
            noisy: Shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels``.
            conditions: A condition a row, or None.
            streams: A stream a row.
            reversal: One of ``reversals``.
            steps: Number of steps of the whole schedule; a reversal takes its share of them.
            guidance: Guidance scale.
            purpose: Purpose of the streams.

        Returns:
            Clean samples, shape ``(N, *sample_shape)``.
        """
        ...

    def decode(self, clean: Tensor) -> Any:
        """What features read.

        Args:
            clean: Shape ``(N, *sample_shape)``.

        Returns:
            Images in [0, 1], shape ``(N, C, H, W)``, or points, shape ``(N, D)``.
        """
        ...


@runtime_checkable
class Trajectories(Protocol):
    """What a model may do besides: stop a reversal on its way, and look at what is decided there.

    Experiments that branch a generation, change its condition on the way or look at previews need
    it. Random numbers come from the streams under a ``purpose``, so that segments of one
    trajectory draw different ones.

    Attributes:
        start_logsnr: Level of pure noise, at which a generation starts.
    """

    @property
    def start_logsnr(self) -> float: ...  # noqa: D102

    def pure_noise(self, streams: Sequence[UnitStreams]) -> Tensor:
        """The state at ``start_logsnr``, drawn under the purpose ``"generate"``.

        Args:
            streams: A stream a row.

        Returns:
            Shape ``(N, *sample_shape)``, in the frame of :meth:`Model.noise`.
        """
        ...

    def partial(
        self,
        noisy: Tensor,
        logsnr: float,
        stop: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "stochastic",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Reverse from one level to a cleaner one and return the noisy state there.

        Args:
            noisy: Samples at ``logsnr``, shape ``(N, *sample_shape)``.
            logsnr: Their level.
            stop: A larger level, one of ``levels``.
            conditions: A condition a row, or None.
            streams: A stream a row.
            reversal: One of ``reversals``.
            steps: Number of steps of the whole schedule; the segment takes its share.
            guidance: Guidance scale.
            purpose: Purpose of the streams.

        Returns:
            Samples at ``stop``, same shape and frame.
        """
        ...

    def predict(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        guidance: float | None = None,
    ) -> Tensor:
        """The estimate of the clean sample, ``E[x_0 | x_t]`` where the denoiser is exact.

        Args:
            noisy: Samples at ``logsnr``, shape ``(N, *sample_shape)``.
            logsnr: Their level.
            conditions: A condition a row, or None.
            guidance: Guidance scale.

        Returns:
            Shape ``(N, *sample_shape)``.
        """
        ...


@runtime_checkable
class Dataset(Protocol):
    """Clean samples that a model brings, by position, with what is known of each.

    Attributes:
        planted: Name -> value of every item, text, shape ``(len,)``.

    A data set may also have ``strata``, text of shape ``(len,)``: sources are then dealt over
    them in turn.
    """

    @property
    def planted(self) -> Mapping[str, NDArray[np.str_]]: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of items."""
        ...

    def clean(self, items: Sequence[int]) -> Tensor:
        """Clean samples as the model works with them.

        Args:
            items: Positions, length M.

        Returns:
            Shape ``(M, *sample_shape)``.
        """
        ...


def check_model(model: object) -> Model:
    """Refuse what does not have a model's attributes and methods.

    Args:
        model: The object.

    Returns:
        The same object.

    Raises:
        InputError: If something is missing; the message names it.
    """
    wanted = _ATTRIBUTES
    missing = [name for name in wanted if not hasattr(model, name)]
    if missing or not isinstance(model, Model):
        raise InputError(
            "not a model",
            got=f"{type(model).__name__} without {', '.join(missing)}",
            wanted="an object with " + ", ".join(wanted),
            next_step="wrap a network in critwin.Denoiser",
        )
    return model


def trajectories_of(model: Model) -> Trajectories:
    """The same model, if its reversals can be stopped on their way.

    Args:
        model: A model.

    Returns:
        The model.

    Raises:
        InputError: If it lacks ``start_logsnr``, ``pure_noise``, ``partial`` or ``predict``.
    """
    names = ("start_logsnr", "pure_noise", "partial", "predict")
    if missing := [name for name in names if not hasattr(model, name)]:
        raise InputError(
            f"model {model.name!r} cannot stop a reversal on its way",
            got="no " + ", ".join(missing),
            wanted="a model with " + ", ".join(names),
            next_step="use the forward_reverse experiment, or a Denoiser or a pipeline",
        )
    known: Any = model
    stops: Trajectories = known
    return stops


def x_0_from_prediction(
    output: Tensor, x_t: Tensor, logsnr: float, prediction: Prediction
) -> Tensor:
    r"""Clean sample that a network's output stands for.

    Args:
        output: What the network predicts, shape ``(N, *shape)``.
        x_t: Noisy samples in the variance-preserving frame, same shape.
        logsnr: Their level.
        prediction: ``"x_0"``; ``"eps"``, the noise z; ``"v"``, ``alpha z - sigma x_0``;
            ``"velocity"``, ``z - x_0``, the derivative of ``(1 - s) x_0 + s z``; or
            ``"sample"``, a draw of ``x_0`` rather than its mean (one-step models).

    Returns:
        The predicted ``x_0``, same shape.

    Raises:
        InputError: If the kind of prediction is unknown.

    Source:
        Salimans & Ho (2022), *Progressive distillation*, sec. 4; Lipman et al. (2023), *Flow
        matching*, for the velocity, whose time is ``s = sigma / (alpha + sigma)``.
    """
    alpha, sigma = (float(value) for value in alpha_sigma(logsnr))
    if prediction in ("x_0", "sample"):
        return output
    if prediction == "eps":
        return (x_t - sigma * output) / alpha
    if prediction == "v":
        return alpha * x_t - sigma * output
    if prediction == "velocity":
        return (x_t - sigma * output) / (alpha + sigma)
    raise InputError(
        "unknown prediction", got=prediction, wanted="one of " + ", ".join(get_args(Prediction))
    )
