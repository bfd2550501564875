r"""Labels in words: which of some descriptions an image fits best, by CLIP or SigLIP.

Every description is put into every template; the unit vectors of a label's texts are averaged and
the mean is brought back to length one, once, when the feature is made. With ``c_j`` the cosine of
an image with label j, the law over the labels is

.. math:: p_j = \exp(c_j / T) / \sum_i \exp(c_i / T),

at the temperature of the network's own training, ``T = 1 / scale``, or at a calibrated one.
SigLIP's own answer is not a law: it gives each label by itself the probability
``s_j = sigmoid(scale c_j + bias)``. Given that exactly one of the labels holds, were they
independent, label j has probability proportional to the odds ``s_j / (1 - s_j)``, which is the
law above at ``T = 1 / scale``; the bias drops out. ``s_j`` of the best label is kept as ``match``:
it tells when none of the labels fits.

Source: Radford et al. (2021), *Learning transferable visual models from natural language
supervision*, sec. 3.1.4 (templates, averaging of embeddings); Zhai et al. (2023), *Sigmoid loss
for language image pre-training*, sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_names
from critwin.features.base import Reading
from critwin.features.calibration import Calibration, check_calibration
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.features.encoders import Encoder
    from critwin.features.labelling import ErrorMatrix

__all__ = ["DEFAULT_TEMPLATES", "ZeroShotFeature"]

DEFAULT_TEMPLATES = ("a photo of {}.",)
"""Where descriptions are put unless other templates are given."""

_SAME = 1e-6


class ZeroShotFeature:
    """The label whose descriptions an image fits best.

    Values: ``score``, the cosine of the image with the best label; ``margin``, the largest
    probability less the second; for SigLIP also ``match``, the network's own probability that the
    best label fits.

    Args:
        encoder: Puts images and texts into one space.
        labels: The labels: each is its own description; or label -> description or descriptions.
        name: Name of the feature.
        templates: Texts with one ``{}``, where a description is put.
        margin: Abstain where ``margin`` is below this, in ``[0, 1]``.
        min_score: Abstain where ``score`` is below this, in ``[-1, 1]``; never if None.
        temperature: Temperature of the law, in cosines; the network's own if None.
        calibration: A fitted temperature with its history, instead of ``temperature``.
        errors: How often it errs, as in :class:`~critwin.features.classifier.ClassifierFeature`.

    Raises:
        InputError: If there are fewer than two labels, a description is empty or occurs twice,
            the network cannot tell two labels apart, or an option is out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        labels: Sequence[str] | Mapping[str, str | Sequence[str]],
        *,
        name: str = "zero-shot",
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        margin: float = 0.0,
        min_score: float | None = None,
        temperature: float | None = None,
        calibration: Calibration | None = None,
        errors: ErrorMatrix | None = None,
    ) -> None:
        self.encoder = encoder
        self.name = name
        self.descriptions = _descriptions(name, labels)
        self.labels = tuple(self.descriptions)
        self.templates = _templates(templates)
        if not 0 <= margin <= 1:
            raise InputError("margin is out of range", got=margin, wanted="a number in [0, 1]")
        if min_score is not None and not -1 <= min_score <= 1:
            raise InputError("min_score is out of range", got=min_score, wanted="in [-1, 1]")
        if temperature is not None and not 0 < temperature < np.inf:
            raise InputError("temperature is out of range", got=temperature, wanted="above 0")
        if temperature is not None and calibration is not None:
            raise InputError(
                "a temperature and a calibration were both given",
                next_step="keep one of them",
            )
        if errors is not None and set(errors.labels) != set(self.labels):
            raise InputError(
                f"the error matrix is not that of feature {name!r}",
                got=", ".join(errors.labels),
                wanted=", ".join(self.labels),
            )
        self.margin = float(margin)
        self.min_score = None if min_score is None else float(min_score)
        self.errors = errors
        self.calibration = calibration
        self.vectors = self._vectors()
        if calibration is not None:
            check_calibration(calibration, self)
            temperature = calibration.temperature
        self.temperature = 1.0 / encoder.scale if temperature is None else float(temperature)

    @property
    def basis(self) -> str:
        """Digest of everything that changes a score: network, labels, templates."""
        return fingerprint_of(
            "zero-shot-scores/1",
            encoder=self.encoder.fingerprint,
            labels=[[label, list(texts)] for label, texts in self.descriptions.items()],
            templates=list(self.templates),
        )

    @property
    def fingerprint(self) -> str:
        """Digest of the network, the labels in their order, the templates and the options."""
        return fingerprint_of(
            "zero-shot/1",
            name=self.name,
            basis=self.basis,
            margin=self.margin,
            min_score=self.min_score,
            temperature=self.temperature,
        )

    def scores(self, samples: Any) -> NDArray[np.float64]:
        """Cosines of images with labels; the law is the softmax of ``scores / temperature``.

        Args:
            samples: Images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, J)``.
        """
        # einsum sums each pair in the same order, whatever the number of rows
        vectors = self.encoder.embed_images(samples)
        return np.asarray(np.einsum("nd,jd->nj", vectors, self.vectors))

    def calibrated(self, calibration: Calibration) -> ZeroShotFeature:
        """The same feature at a fitted temperature.

        Args:
            calibration: What :func:`~critwin.features.calibration.calibrate` returned.

        Returns:
            A new feature.

        Raises:
            InputError: If it was fitted to other scores.
        """
        return ZeroShotFeature(
            self.encoder,
            self.descriptions,
            name=self.name,
            templates=self.templates,
            margin=self.margin,
            min_score=self.min_score,
            calibration=calibration,
            errors=self.errors,
        )

    def read(self, samples: Any) -> Reading:
        """Read images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading, with the law over the labels.

        Raises:
            InputError: If these are no images in ``[0, 1]``.
        """
        cosines = self.scores(samples)
        logits = cosines / self.temperature
        probs = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probs /= probs.sum(axis=1, keepdims=True)
        ordered = np.sort(probs, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        best = cosines.argmax(axis=1)
        score = cosines[np.arange(len(cosines)), best]
        is_vague = margin < self.margin
        if self.min_score is not None:
            is_vague |= score < self.min_score
        values = {"score": score, "margin": margin}
        if self.encoder.bias is not None:
            own = self.encoder.scale * score + self.encoder.bias
            values["match"] = 0.5 * (1 + np.tanh(own / 2))  # a sigmoid that cannot overflow
        return Reading(indices=np.where(is_vague, ABSTAIN, best), probs=probs, values=values)

    def _vectors(self) -> NDArray[np.float64]:
        rows = []
        for label, texts in self.descriptions.items():
            filled = [
                template.replace("{}", text) for text in texts for template in self.templates
            ]
            mean = self.encoder.embed_texts(filled).mean(axis=0)
            length = float(np.linalg.norm(mean))
            if length < _SAME:
                raise InputError(f"the descriptions of label {label!r} cancel out")
            rows.append(mean / length)
        vectors = np.stack(rows)
        cosines = vectors @ vectors.T - 2 * np.eye(len(rows))
        if cosines.max() > 1 - _SAME:
            i, j = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
            raise InputError(
                f"labels {self.labels[min(i, j)]!r} and {self.labels[max(i, j)]!r} are the same "
                "to the network",
                got=f"a cosine of {cosines.max():.9f}",
                next_step="describe them in other words",
            )
        return vectors


def _descriptions(name: str, labels: Any) -> dict[str, tuple[str, ...]]:
    if isinstance(labels, Mapping):
        given = {k: (v,) if isinstance(v, str) else v for k, v in labels.items()}
    else:
        given = {label: (label,) for label in check_names(name, labels)}
    check_names(name, tuple(given))
    if len(given) < 2:
        raise InputError(
            f"feature {name!r} needs two labels",
            got=", ".join(given),
            wanted="at least two: what else could it be?",
        )
    out: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for label, texts in given.items():
        if not isinstance(texts, list | tuple) or not texts:
            raise InputError(f"label {label!r} has no description", got=texts, wanted="text")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"a description of label {label!r} is empty", got=text)
            if text.strip() in owner:
                raise InputError(
                    f"a description of label {label!r} occurs twice",
                    got=text,
                    wanted=f"another one than that of {owner[text.strip()]!r}",
                )
            owner[text.strip()] = label
        out[label] = tuple(text.strip() for text in texts)
    return out


def _templates(templates: Any) -> tuple[str, ...]:
    given = (templates,) if isinstance(templates, str) else tuple(templates)
    for text in given:
        if not isinstance(text, str) or text.count("{}") != 1:
            raise InputError(
                "a template cannot be used", got=text, wanted="text with one {} for a description"
            )
    if not given or len(set(given)) < len(given):
        raise InputError("templates are empty or not distinct", got=given, wanted="one or more")
    return given
