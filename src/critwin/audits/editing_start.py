"""Starting the small run that advice on one image needs; the same call goes on with it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._images import read_image
from critwin._texts import unknown_name
from critwin.audits._editing_rates import Wish, check_wishes, wish_of
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.experiments.measuring import Progress
    from critwin.models.base import Model
    from critwin.runs.executor import RunOutcome

__all__ = ["OTHER", "OneImage", "start_edit", "wishes_in_words"]

OTHER = "anything else"
"""Label of what none of the labels in words describes."""
_OTHER_WORDS = ("a photo", "an image", "an object", "a scene")
_LEAST, _MOST = 0.1, 5.0


class OneImage:
    """A model whose data set is one image. Everything else is the model's own.

    Attributes:
        fingerprint: The model's, and that of the image.

    Args:
        model: The model.
        pixels: The image in [0, 1], shape ``(C, H, W)``.
        name: Its name.
    """

    def __init__(self, model: Model, pixels: NDArray[np.float32], name: str) -> None:
        self._model, self._pixels, self._name = model, pixels, name
        digest = hashlib.sha256(str(model.fingerprint).encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __len__(self) -> int:
        """One."""
        return 1

    def dataset(self) -> OneImage:
        """The image as a source."""
        return self

    @property
    def planted(self) -> Mapping[str, NDArray[np.str_]]:
        """``file``, the name of the image."""
        return {"file": np.array([self._name])}

    def clean(self, items: Sequence[int]) -> Tensor:
        """The image as the model works with it.

        Args:
            items: Positions, all 0.

        Returns:
            Shape ``(M, *sample_shape)``.
        """
        import torch

        image = torch.from_numpy(self._pixels)[None]
        clean = torch.as_tensor(self._model.encode(image))  # type: ignore[attr-defined]
        return clean.repeat(len(items), *[1] * (clean.ndim - 1))


def wishes_in_words(texts: Sequence[str], name: str) -> tuple[list[Wish], dict[str, list[str]]]:
    """Wishes about features in words.

    Args:
        texts: ``LABEL,LABEL`` or ``NAME=LABEL,LABEL``; a label with a comma stands in quotes.
        name: Name of a feature that is not named.

    Returns:
        The wishes, and the labels of every feature; :data:`OTHER` is added by the run.

    Raises:
        InputError: If a text has no label, or two features have the same name.
    """
    wishes: list[Wish] = []
    labels: dict[str, list[str]] = {}
    for number, text in enumerate(texts):
        head, is_named, rest = (part.strip() for part in text.partition("="))
        if not (is_named and head.isidentifier()):
            head, rest = name if number == 0 else f"{name}{number + 1}", text.strip()
        own = [label.strip() for label in next(csv.reader([rest], skipinitialspace=True), [])]
        if not own or not all(own) or len(set(own)) < len(own):
            raise InputError(
                "not labels in words", got=text, wanted='"LABEL","LABEL" or NAME="LABEL","LABEL"'
            )
        if head in labels:
            raise InputError("two features have the same name", got=head)
        labels[head] = own
        wishes.append(Wish(feature=head, labels=tuple(own)))
    return wishes, labels


def start_edit(
    model: str,
    image: str | Path,
    keep: Sequence[str],
    change: Sequence[str],
    out: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    labeller: str | None = None,
    prompt: str | None = None,
    reversal: str | None = None,
    num_levels: int = 10,
    replicates: int = 32,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[RunOutcome, list[Wish], list[Wish]]:
    """Noise one image to several levels and denoise it again, in a run folder.

    Args:
        model: Name of the model, or the folder or hub name of a pipeline.
        image: The image; cropped to the model's size.
        keep: What to keep: for a model without prompts features by name (``"digit"``), else
            labels in words.
        change: What to change, likewise.
        out: The run folder; one of the same call is gone on with.
        options: Options of the model.
        labeller: Folder or hub name of the CLIP or SigLIP that reads labels in words.
        prompt: Condition under which the image is edited; unconditional unless given.
        reversal: How to reverse; the model's first way unless given.
        num_levels: Number of levels, uniform in OU time.
        replicates: Edits at every level.
        steps: Steps of the whole schedule; the model's own unless given.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch.
        threads: Threads of torch.
        progress: Called after each batch.
        say: Called with lines that the user should see.

    Returns:
        What was done, and the wishes.

    Raises:
        InputError: If the image cannot be read, the model cannot take one, or the wishes cannot
            be used; nothing is written then.
    """
    from critwin.models.registry import list_models, load_model
    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment
    from critwin.runs.prepare import prepare

    _check_image(Path(image))
    section: dict[str, Any] = {"name": model, **dict(options or {})}
    if model not in list_models():
        if "/" not in model and not Path(model).is_dir():
            more = ", or the folder or hub name of a pipeline"
            raise unknown_name("model", model, list_models(), more=more)
        section = {"name": "pipeline", "path": model, **dict(options or {})}
        if steps is not None:  # its levels are those of its steps
            section, steps = {**section, "steps": steps}, None
    features, wishes = _features(keep, change, section, labeller)
    import torch

    loaded: Any = load_model(section["name"], **{k: v for k, v in section.items() if k != "name"})
    if not callable(getattr(loaded, "encode", None)):
        raise InputError(f"model {model!r} cannot take an image", wanted="a model with an encoder")
    shape = tuple(loaded.decode(torch.zeros((1, *loaded.sample_shape))).shape[1:])
    if len(shape) != 3:
        raise InputError("the model does not make images", got=f"samples of shape {shape}")
    pixels = read_image(str(image), channels=shape[0], size=(shape[1], shape[2]))
    own: Any = OneImage(loaded, pixels, Path(image).name)
    denoise: dict[str, Any] = {"condition": prompt or "none"}
    if steps is not None:
        denoise["steps"] = steps
    if reversal is not None:
        denoise["reversal"] = reversal
    config = parse_config(
        {
            "run": {"out": str(out), "seed": seed, "batch_size": batch_size, "images": 1},
            "model": section,
            "sources": {"kind": "dataset", "count": 1},
            "denoise": denoise,
            "levels": {"unit": "t", "values": _levels(loaded, num_levels)},
            "experiment": {"name": "forward_reverse", "replicates": replicates},
            "feature": features,
        }
    )
    ready = prepare(config, model=own)
    labels = {feature.name: feature.labels for feature in ready.features}
    check_wishes(*wishes, labels)
    outcome = run_experiment(
        config,
        out=out,
        model=own,
        features=ready.features,
        threads=threads,
        progress=progress,
        say=say,
    )
    return outcome, wishes[0], wishes[1]


def _features(
    keep: Sequence[str], change: Sequence[str], section: Mapping[str, Any], labeller: str | None
) -> tuple[list[dict[str, Any]], tuple[list[Wish], list[Wish]]]:
    """Sections ``[[feature]]``, and the wishes."""
    from critwin.features.registry import list_features

    if section["name"] != "pipeline":
        by_name = ([wish_of(w) for w in keep], [wish_of(w) for w in change])
        check_wishes(*by_name)
        names = dict.fromkeys(wish.feature for wishes in by_name for wish in wishes)
        known = list_features()
        for name in names:
            if name not in known:
                raise unknown_name("feature", name, known)
        if labeller is not None:
            raise InputError(
                "a labeller reads words, and this model's features are known by name",
                got=labeller,
                wanted="no labeller beside a model without prompts",
                next_step="leave it out",
            )
        return [{"name": name} for name in names], by_name
    kept, first = wishes_in_words(keep, "keep")
    changed, second = wishes_in_words(change, "change")
    if both := set(first) & set(second):
        raise InputError("a feature cannot be kept and changed", got=", ".join(sorted(both)))
    said = {label: name for name, labels in first.items() for label in labels}
    if same := [label for labels in second.values() for label in labels if label in said]:
        raise InputError("a label cannot be kept and changed to", got=same[0])
    sections = []
    for name, labels in {**first, **second}.items():
        words = {label: [label] for label in labels} | {OTHER: list(_OTHER_WORDS)}
        entry: dict[str, Any] = {"name": "zero-shot", "called": name, "labels": words}
        sections.append(entry if labeller is None else {**entry, "path": labeller})
    return sections, (kept, changed)


def _check_image(path: Path) -> None:
    """Refuse what is no image before a model is loaded."""
    if not path.is_file():
        raise InputError(
            "cannot read the image",
            got=f"{path} ({'not a file' if path.exists() else 'no such file'})",
            wanted="a PNG or JPEG file",
        )
    read_image(str(path), channels=3, size=(8, 8))


def _levels(model: Any, count: int) -> list[float]:
    """OU times, uniform, within what the model can start from."""
    low, high = _LEAST, _MOST
    if model.levels is not None:
        t = ou_time(np.asarray(model.levels))
        low, high = max(low, float(t.min())), min(high, float(t.max()))
    return [round(float(t), 6) for t in np.linspace(low, high, max(count, 2))]
