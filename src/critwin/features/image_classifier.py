"""Labels from an image classifier of transformers (ViT, ConvNeXt, ResNet, …) and its classes.

Several classes may make one label. A class of none of the labels stays a rival: where one is
likelier than the best label, the feature abstains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import nn

from critwin.errors import InputError
from critwin.features._inputs import check_names
from critwin.features._pretrained import (
    Pretrained,
    choose_device,
    choose_dtype,
    find,
    load_network,
    loading,
    read_json,
)
from critwin.features.base import Reading
from critwin.features.calibration import Calibration, check_calibration
from critwin.features.encoders import to_bytes
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.features.labelling import ErrorMatrix

__all__ = ["ImageClassifierFeature", "load_image_classifier"]


class ImageClassifierFeature:
    """The likeliest label, a label being one class of a network or several.

    The probability of a label is the sum over its classes; the law that is kept is that of the
    labels, given that it is one of them. Every call of the network has the same batch shape.

    Values: ``margin``, the largest probability less the second; ``other``, the probability of all
    classes that belong to no label.

    Args:
        network: Returns ``.logits`` of ``pixel_values``, shape ``(N, C)``.
        processor: Its image processor, PIL backend.
        classes: Names of the network's classes, length C.
        labels: Label -> class or classes, by name or by number; None: every class is a label.
        name: Name of the feature.
        margin: Abstain where ``margin`` is below this, in ``[0, 1]``.
        temperature: Temperature of the law of the classes.
        calibration: A fitted temperature with its history, instead of ``temperature``.
        batch_size: Images a call.
        errors: How often it errs, as in :class:`~critwin.features.classifier.ClassifierFeature`.
        digest: Digest of the network's files; of its weights if None.

    Raises:
        InputError: If a class is unknown, has a name that another one has, or is in two labels,
            or an option is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        classes: Sequence[str],
        labels: Mapping[str, Any] | None = None,
        *,
        name: str = "image-classifier",
        margin: float = 0.0,
        temperature: float = 1.0,
        calibration: Calibration | None = None,
        batch_size: int = 16,
        errors: ErrorMatrix | None = None,
        digest: str | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self.classes = tuple(classes)
        self._processor = processor
        self._digest = digest
        self._given = labels
        self.groups = _groups(self.classes, labels)
        self.labels = check_names(name, self.classes if labels is None else tuple(labels))
        if not 0 <= margin <= 1:
            raise InputError("margin is out of range", got=margin, wanted="a number in [0, 1]")
        if not 0 < temperature < np.inf:
            raise InputError("temperature is out of range", got=temperature, wanted="above 0")
        if batch_size < 1:
            raise InputError("batch_size must be positive", got=batch_size)
        if errors is not None and set(errors.labels) != set(self.labels):
            raise InputError(
                f"the error matrix is not that of feature {name!r}",
                got=", ".join(errors.labels),
                wanted=", ".join(self.labels),
            )
        self.margin = float(margin)
        self.batch_size = int(batch_size)
        self.errors = errors
        self.calibration = calibration
        self.temperature = float(temperature)
        if calibration is not None:
            check_calibration(calibration, self)
            self.temperature = calibration.temperature

    @property
    def basis(self) -> str:
        """Digest of everything that changes a score."""
        own = next(iter(self.network.parameters()), torch.zeros(()))
        return fingerprint_of(
            "image-classifier-scores/1",
            files=self._digest or dict(self.network.state_dict()),
            backend=str(self._processor.backend),
            dtype=str(own.dtype),
            device=own.device.type,
            batch_size=self.batch_size,
            groups=self.groups,
            labels=list(self.labels),
        )

    @property
    def fingerprint(self) -> str:
        """Digest of the network, the labels, their classes and the options."""
        return fingerprint_of(
            "image-classifier/1",
            name=self.name,
            basis=self.basis,
            margin=self.margin,
            temperature=self.temperature,
        )

    def scores(self, samples: Any) -> NDArray[np.float64]:
        """Logits of the classes.

        Args:
            samples: Images in ``[0, 1]``, grey or RGB, shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, number of classes)``.

        Raises:
            InputError: If these are no such images, or the network's answer cannot be used.
        """
        pixels = to_bytes(samples)
        if not len(pixels):
            return np.zeros((0, len(self.classes)))
        size = self.batch_size
        parts = [self._logits(pixels[i : i + size]) for i in range(0, len(pixels), size)]
        return np.concatenate(parts)

    def calibrated(self, calibration: Calibration) -> ImageClassifierFeature:
        """The same feature at a fitted temperature.

        Args:
            calibration: What :func:`~critwin.features.calibration.calibrate` returned.

        Returns:
            A new feature.

        Raises:
            InputError: If it was fitted to other scores.
        """
        return ImageClassifierFeature(
            self.network,
            self._processor,
            self.classes,
            self._given,
            name=self.name,
            margin=self.margin,
            calibration=calibration,
            batch_size=self.batch_size,
            errors=self.errors,
            digest=self._digest,
        )

    def read(self, samples: Any) -> Reading:
        """Read images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading, with the law over the labels.

        Raises:
            InputError: If these are no such images, or the network's answer cannot be used.
        """
        logits = self.scores(samples) / self.temperature
        logs = logits - logsumexp(logits, axis=1, keepdims=True)
        num = len(self.labels)
        sums = np.stack([logsumexp(logs[:, self.groups == j], axis=1) for j in range(num)], axis=1)
        rivals = np.exp(logs[:, self.groups < 0])
        probs = np.exp(sums - logsumexp(sums, axis=1, keepdims=True))
        ordered = np.sort(probs, axis=1)
        margin = ordered[:, -1] - (ordered[:, -2] if num > 1 else 0.0)
        is_other = rivals.max(axis=1, initial=0.0) > np.exp(sums.max(axis=1))
        return Reading(
            indices=np.where(is_other | (margin < self.margin), ABSTAIN, sums.argmax(axis=1)),
            probs=probs,
            values={"margin": margin, "other": rivals.sum(axis=1)},
        )

    def _logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        from PIL import Image

        pictures = [Image.fromarray(row) for row in pixels]
        pictures += [pictures[0]] * (self.batch_size - len(pixels))
        values = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        own = next(iter(self.network.parameters()), torch.zeros(()))
        try:
            with torch.inference_mode():
                answer = self.network(pixel_values=values.to(own.device, own.dtype)).logits
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the network of feature {self.name!r} cannot read these images",
                got=f"{tuple(values.shape)}: {str(error).splitlines()[0]}",
                next_step="its preprocessor_config.json does not fit its config.json",
            ) from error
        logits = answer.detach().cpu().double().numpy()
        if logits.shape != (self.batch_size, len(self.classes)) or not np.isfinite(logits).all():
            raise InputError(
                f"the network of feature {self.name!r} returned the wrong thing",
                got=f"shape {logits.shape}"
                + ("" if np.isfinite(logits).all() else ", not finite"),
                wanted=f"finite logits of {len(self.classes)} classes",
                next_step='use dtype = "float32"',
            )
        return np.asarray(logits[: len(pixels)])


def load_image_classifier(
    path: str | Path,
    labels: Mapping[str, Any] | None = None,
    *,
    name: str = "image-classifier",
    margin: float = 0.0,
    temperature: float = 1.0,
    calibration: Calibration | None = None,
    errors: ErrorMatrix | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
) -> ImageClassifierFeature:
    """An image classifier from a folder or the hub.

    Args:
        path: A folder, or a hub id.
        labels: Label -> class or classes, by name or by number; None: every class is a label.
        name: Name of the feature.
        margin: Abstain where the margin is below this.
        temperature: Temperature of the law of the classes.
        calibration: A fitted temperature, instead of ``temperature``.
        errors: How often it errs.
        revision: Branch, tag or commit on the hub.
        local_files_only: Look on this machine only.
        device: ``"cpu"``, ``"cuda"``, …
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        batch_size: Images a call.

    Returns:
        The feature.

    Raises:
        InputError: If the network cannot be had, is no image classifier, or cannot be loaded.
    """
    import transformers

    place, number = choose_device(device), choose_dtype(dtype)
    found = find(path, revision=revision, local_files_only=local_files_only)
    known = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    if found.kind not in known:
        raise InputError(
            f"{found.source} is no image classifier that transformers knows",
            got=found.kind or "no model_type",
            wanted="a network like vit, convnext or resnet",
        )
    with loading(found.source):
        processor = _processor_class(found).from_pretrained(found.folder, local_files_only=True)
    network = load_network(
        found,
        transformers.AutoModelForImageClassification,
        dtype=number,
        attn_implementation="eager",
    )
    names: Mapping[Any, str] = network.config.id2label  # type: ignore[assignment,union-attr]
    return ImageClassifierFeature(
        network.to(place),
        processor,
        [str(names[index]) for index in range(len(names))],
        labels,
        name=name,
        margin=margin,
        temperature=temperature,
        calibration=calibration,
        batch_size=batch_size,
        errors=errors,
        digest=found.digest,
    )


def _processor_class(found: Pretrained) -> Any:
    """The class with the PIL backend of the processor that a folder names."""
    import transformers

    about = read_json(found.folder / "preprocessor_config.json", found.source)
    name = str(about.get("image_processor_type") or about.get("feature_extractor_type") or "")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    made = getattr(transformers, f"{name}ImageProcessorPil", None) if name.isidentifier() else None
    if made is None:
        raise InputError(
            f"the image processor of {found.source} has no PIL backend",
            got=about.get("image_processor_type"),
            wanted="one that needs no torchvision, as ViT, ConvNeXt and ResNet have",
        )
    return made


def _groups(classes: tuple[str, ...], labels: Mapping[str, Any] | None) -> NDArray[np.int64]:
    """Label of each class, -1 where it has none."""
    if labels is None:
        return np.arange(len(classes))
    if not isinstance(labels, Mapping) or not labels:
        raise InputError("labels are no table", got=labels, wanted="label = class or classes")
    groups = np.full(len(classes), -1, dtype=np.int64)
    for number, (label, given) in enumerate(labels.items()):
        members = given if isinstance(given, list | tuple) else [given]
        if not members:
            raise InputError(f"label {label!r} has no classes")
        for member in members:
            index = _class_index(classes, member, str(label))
            if groups[index] >= 0:
                raise InputError(
                    f"class {classes[index]!r} is in a label twice", got=member, wanted="once"
                )
            groups[index] = number
    return groups


def _class_index(classes: tuple[str, ...], member: Any, label: str) -> int:
    if isinstance(member, int) and not isinstance(member, bool):
        if 0 <= member < len(classes):
            return member
        raise InputError(
            f"label {label!r}: no such class", got=member, wanted=f"0 … {len(classes) - 1}"
        )
    found = [index for index, name in enumerate(classes) if name == member]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"label {label!r}: two classes have this name",
            got=member,
            wanted=" or ".join(str(index) for index in found),
            next_step="give the number",
        )
    import difflib

    close = difflib.get_close_matches(str(member), classes, n=1)
    raise InputError(
        f"label {label!r}: the network has no such class",
        got=member,
        wanted=f"one of its {len(classes)} classes, by name or number",
        next_step=f"did you mean {close[0]!r}?" if close else None,
    )
