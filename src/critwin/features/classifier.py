"""Labels from a network: the feature around a classifier, and the small network that is shipped.

Weights come from safetensors files only. What such a file may name is one of the architectures
below, by name and with plain numbers; nothing in it is imported or run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from critwin.errors import InputError
from critwin.features._inputs import check_images, check_names
from critwin.features.base import Reading
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from critwin.features.labelling import ErrorMatrix

__all__ = ["ARCHITECTURES", "ClassifierFeature", "SmallConvNet", "load_classifier"]


class SmallConvNet(nn.Module):
    """A convolutional classifier of small colour images, blind to their mean and contrast.

    Each image is centred channel by channel and divided by one standard deviation over all its
    channels, so what is read depends on the row alone: there is no batch statistic anywhere, and
    dropout acts in training mode only.

    Args:
        num_labels: Number of labels J.
        in_channels: Colour channels C.
        channels: Widths of the three stages; the second and third halve the resolution.
        pool: Side of the grid that the last stage is averaged to.
        dropout: Share of pooled activations dropped in training mode.
    """

    def __init__(
        self,
        num_labels: int = 10,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = (16, 32, 64),
        pool: int = 3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "num_labels": num_labels,
            "in_channels": in_channels,
            "channels": [int(width) for width in channels],
            "pool": pool,
            "dropout": dropout,
        }
        first, second, third = channels
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, third, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(pool),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(third * pool * pool, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Score every label.

        Args:
            images: Images in ``[0, 1]``, float, shape ``(N, C, H, W)``.

        Returns:
            Logits, shape ``(N, J)``.
        """
        centred = images - images.mean(dim=(2, 3), keepdim=True)
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        logits: Tensor = self.head(self.body(centred / (scale + torch.finfo(scale.dtype).eps)))
        return logits


class ClassifierFeature:
    """The label with the largest probability, by a network that returns logits.

    Every call of the network has the same batch shape (the last batch is padded with repeats of
    its own first row), so what a row reads does not depend on how many rows there are.

    Values: ``margin``, the largest probability less the second.

    Args:
        network: Takes images ``(N, C, H, W)`` in ``[0, 1]`` and returns logits ``(N, J)``. It is
            called in evaluation mode, in its own dtype and on its own device.
        labels: Names of the labels, length J.
        name: Name of the feature.
        abstain_below: Abstain where ``margin`` is below this, in ``[0, 1]``.
        batch_size: Rows a call.
        errors: How often it errs on labelled samples; kept with what it reads, so that a report
            shows the curve corrected for these errors beside the raw one.

    Raises:
        InputError: If a name or an option cannot be used, a weight is not finite, or the errors
            are those of other labels.
    """

    def __init__(
        self,
        network: nn.Module,
        labels: Sequence[str],
        *,
        name: str,
        abstain_below: float = 0.0,
        batch_size: int = 64,
        errors: ErrorMatrix | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.labels: tuple[str, ...] = check_names(name, labels)
        if not 0 <= abstain_below <= 1:
            raise InputError(
                "abstain_below is out of range", got=abstain_below, wanted="a margin in [0, 1]"
            )
        if batch_size < 1:
            raise InputError("batch_size must be positive", got=batch_size)
        self.abstain_below = float(abstain_below)
        self.batch_size = int(batch_size)
        if errors is not None and set(errors.labels) != set(self.labels):
            raise InputError(
                f"the error matrix is not that of feature {name!r}",
                got=", ".join(errors.labels),
                wanted=", ".join(self.labels),
            )
        self.errors = errors
        for key, tensor in network.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(
                    f"weights of feature {name!r} are not finite",
                    got=key,
                    next_step="train or download them again",
                )

    @property
    def fingerprint(self) -> str:
        """Digest of the weights, the network's description, the labels and the options."""
        return fingerprint_of(
            "classifier/1",
            name=self.name,
            labels=self.labels,
            abstain_below=self.abstain_below,
            batch_size=self.batch_size,
            network=[type(self.network).__qualname__, str(self.network)],
            weights=dict(self.network.state_dict()),
        )

    def read(self, samples: Any) -> Reading:
        """Read images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading, with softmax probabilities.

        Raises:
            InputError: If these are no images in ``[0, 1]``, or the network's answer is not
                ``(N, J)`` finite logits.
        """
        images = torch.from_numpy(check_images(samples))
        if not len(images):
            empty = np.zeros((0, len(self.labels)))
            return Reading(
                indices=np.zeros(0, dtype=np.int64), probs=empty, values={"margin": empty[:, 0]}
            )
        own = next(iter(self.network.parameters()), torch.zeros(()))
        parts = []
        with _evaluating(self.network), torch.inference_mode():
            for part in torch.split(images, self.batch_size):
                short = self.batch_size - len(part)
                batch = torch.cat([part, part[:1].expand(short, -1, -1, -1)]) if short else part
                parts.append(self._logits(batch.to(own.device, own.dtype))[: len(part)])
        logits = torch.cat(parts)
        probs = torch.softmax(logits, dim=1).numpy()
        ordered = np.sort(probs, axis=1)
        margin = ordered[:, -1] - (ordered[:, -2] if len(self.labels) > 1 else 0.0)
        indices = logits.argmax(dim=1).numpy()
        return Reading(
            indices=np.where(margin < self.abstain_below, ABSTAIN, indices),
            probs=probs,
            values={"margin": margin},
        )

    def _logits(self, batch: Tensor) -> Tensor:
        try:
            answer = self.network(batch)
        except RuntimeError as error:
            raise InputError(
                f"the network of feature {self.name!r} cannot read these images",
                got=f"shape {tuple(batch.shape)}: {str(error).splitlines()[0]}",
                next_step="resize them, or use a classifier made for this size",
            ) from error
        wanted = (len(batch), len(self.labels))
        if not isinstance(answer, Tensor) or tuple(answer.shape) != wanted:
            raise InputError(
                f"the network of feature {self.name!r} returned the wrong thing",
                got=tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__,
                wanted=f"logits of shape {wanted}, one column a label",
            )
        logits = answer.detach().cpu().double()
        if not bool(torch.isfinite(logits).all()):
            raise InputError(
                f"the network of feature {self.name!r} returned NaN or infinite logits",
                wanted="finite numbers",
                next_step="check its weights and its dtype (float16 overflows)",
            )
        return logits


def load_classifier(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    abstain_below: float = 0.0,
    name: str | None = None,
    batch_size: int = 64,
    errors: ErrorMatrix | None = None,
) -> ClassifierFeature:
    """A classifier from a safetensors file.

    The file's metadata name the ``class`` (a key of :data:`ARCHITECTURES`), its ``architecture``
    (JSON, its arguments) and the ``labels`` (JSON).

    Args:
        path: The file.
        labels: Names of the labels; those in the file unless given.
        abstain_below: Abstain where the margin is below this.
        name: Name of the feature; the file's stem unless given.
        batch_size: Rows a call.
        errors: How often it errs, as in :class:`ClassifierFeature`.

    Returns:
        The feature.

    Raises:
        InputError: If the file is missing, is not safetensors, names an unknown architecture, or
            its weights do not fit.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise InputError("no such classifier file", got=str(file), wanted="a .safetensors file")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            "not a readable safetensors file",
            got=f"{file}: {error}",
            next_step="save the weights with safetensors.torch.save_file",
        ) from error
    kind = metadata.get("class", "")
    if kind not in ARCHITECTURES:
        raise InputError(
            f"{file.name} does not name a known architecture",
            got=kind or None,
            wanted=f"metadata class = one of {', '.join(ARCHITECTURES)}",
            next_step="load other networks in Python and wrap them in ClassifierFeature",
        )
    try:
        options = json.loads(metadata.get("architecture", "{}"))
        named = json.loads(metadata["labels"]) if labels is None else list(labels)
        network = ARCHITECTURES[kind](**options)
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{file.name} does not describe its own weights",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            wanted="metadata class, architecture and labels that fit the weights",
        ) from error
    return ClassifierFeature(
        network.eval(),
        named,
        name=file.stem if name is None else name,
        abstain_below=abstain_below,
        batch_size=batch_size,
        errors=errors,
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the previous mode of every part outside."""
    training = [part for part in network.modules() if part.training]
    network.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


ARCHITECTURES: Mapping[str, type[nn.Module]] = {"SmallConvNet": SmallConvNet}
"""Networks that a safetensors file may name."""
