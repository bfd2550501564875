"""Sources: the clean samples that are noised and denoised, and what was read off each once.

A source has a name that its random streams carry, so a larger number of sources keeps the
smaller number's sources. Sources are drawn from the model (one stream each), taken from the
model's data set (a prefix of a seeded permutation), read from a folder of images, or given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._images import image_files, read_image
from critwin.errors import InputError
from critwin.streams import numpy_stream, seed_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from critwin.models.base import Model
    from critwin.streams import UnitStreams

__all__ = [
    "Source",
    "SourceState",
    "clean_samples",
    "dataset_of",
    "plan_dataset",
    "plan_generated",
    "plan_given",
    "plan_images",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of a plan, before it is drawn.

    Attributes:
        name: Its name; part of the key of its units.
        index: Its position in the plan.
        kind: ``"generated"``, ``"trajectory"`` (generated, with stops on the way),
            ``"dataset"``, ``"images"`` or ``"given"``.
        condition: Condition under which it is generated, or the caption of an image; None is
            unconditional.
        item: Index into the data set or the given samples.
        path: File of an image.
        fit: How the image is brought to the model's size, see :mod:`critwin._images`.
        facts: What else the metadata of a folder say about an image, name and value.
    """

    name: str
    index: int
    kind: str
    condition: str | None = None
    item: int = -1
    path: str | None = None
    fit: str = "crop"
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def is_fresh(self) -> bool:
        """Whether the model itself draws it."""
        return self.kind in ("generated", "trajectory")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SourceState:
    """A source that has been drawn and read.

    Attributes:
        source: The source.
        clean: The clean sample, float32 on the CPU, the model's sample shape.
        is_valid: Whether it is finite and not constant.
        planted: Known truth about it, name -> value.
        before: Per feature: label index, label probabilities or None, named numbers.
    """

    source: Source
    clean: torch.Tensor
    is_valid: bool
    planted: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, tuple[int, tuple[float, ...] | None, Mapping[str, float]]] = field(
        default_factory=dict
    )


def plan_generated(
    count: int, conditions: Sequence[str | None] = (), *, kind: str = "generated"
) -> list[Source]:
    """Sources that the model generates, conditions dealt in turn.

    Args:
        count: Number of sources, at least 1.
        conditions: Conditions; unconditional if empty.
        kind: ``"generated"``, or ``"trajectory"``.

    Returns:
        Sources ``s000000``, ``s000001``, …

    Raises:
        InputError: If there is no source.
    """
    _check_count(count)
    deal: Sequence[str | None] = conditions or [None]
    return [
        Source(name=f"s{i:06d}", index=i, kind=kind, condition=deal[i % len(deal)])
        for i in range(count)
    ]


def plan_dataset(
    count: int, size: int, seed: int, *, strata: NDArray[np.str_] | None = None
) -> list[Source]:
    """Distinct items of a data set, chosen by a named stream.

    Args:
        count: Number of sources, at least 1.
        size: Number of items of the data set.
        seed: Seed of the run.
        strata: Stratum of every item, shape ``(size,)``: strata are then dealt in turn, so that
            few sources already hold some of each. The data set's ``strata``, if it has one.

    Returns:
        The first ``count`` items of a seeded permutation, named after their item: ``d000123``.

    Raises:
        InputError: If there is no source, or the data set is too small.
    """
    _check_count(count)
    if count > size:
        raise InputError(
            "more sources than the data set has items", got=count, wanted=f"at most {size}"
        )
    items = numpy_stream(seed, "sources", "dataset").permutation(size)
    if strata is not None:
        items = items[np.argsort(_rank_within(strata[items]), kind="stable")]
    items = items[:count]
    return [
        Source(name=f"d{int(item):06d}", index=i, kind="dataset", item=int(item))
        for i, item in enumerate(items)
    ]


def _rank_within(strata: NDArray[np.str_]) -> NDArray[np.int64]:
    """How many items of the same stratum stand before each, shape ``(size,)``."""
    rank = np.zeros(len(strata), dtype=np.int64)
    for name in np.unique(strata):
        rows = np.flatnonzero(strata == name)
        rank[rows] = np.arange(len(rows))
    return rank


def plan_images(
    count: int, folder: str | Path, seed: int, *, fit: str | None = None
) -> list[Source]:
    """Images of a folder (PNG, JPEG), in an order fixed by the seed and their names.

    Args:
        count: Number of sources, at least 1.
        folder: The folder. Its ``metadata.csv`` or ``metadata.jsonl`` gives the sources their
            conditions (``text`` or ``caption``) and their planted truth (other columns); files in
            folders below it are read only if the metadata name them.
        seed: Seed of the run.
        fit: How images are brought to the model's size: ``"crop"`` (None is the same),
            ``"stretch"`` or ``"exact"``.

    Returns:
        Sources named after their files. A file that is added later moves no other one's stream.

    Raises:
        InputError: If the folder or its metadata cannot be read, or it has too few images.
    """
    _check_count(count)
    files = image_files(folder)
    if len(files) < count:
        raise InputError(
            "more sources than images in the folder",
            got=count,
            wanted=f"at most {len(files)}, the PNG and JPEG files in {folder}",
        )
    files.sort(key=lambda f: seed_of(seed, "sources", "images", f.name))
    return [
        Source(
            name=f"f:{_text(file.name)}",
            index=i,
            kind="images",
            condition=file.caption,
            path=str(file.path),
            fit=fit or "crop",
            facts=file.facts,
        )
        for i, file in enumerate(files[:count])
    ]


def plan_given(count: int) -> list[Source]:
    """Samples given in memory, named ``x000000``, ``x000001``, … in their order.

    Args:
        count: Number of samples, at least 1.

    Returns:
        The sources.

    Raises:
        InputError: If there is none.
    """
    _check_count(count)
    return [Source(name=f"x{i:06d}", index=i, kind="given", item=i) for i in range(count)]


def clean_samples(
    model: Model,
    sources: Sequence[Source],
    *,
    seed: int,
    batch_size: int,
    given: torch.Tensor | None = None,
) -> tuple[torch.Tensor, list[dict[str, str]]]:
    """Draw or read one batch of sources, all of one kind.

    Args:
        model: The model.
        sources: At most ``batch_size`` sources.
        seed: Seed of the run.
        batch_size: Number of rows of the batch that the model sees.
        given: Samples given in memory, shape ``(S, *sample_shape)``.

    Returns:
        Clean samples, float32 on the CPU, shape ``(N, *sample_shape)`` for N sources, and the
        planted truth of each.

    Raises:
        InputError: If an image cannot be read or does not fit the model.
    """
    import torch

    from critwin.experiments.padding import padded_rows, padded_streams

    kind = sources[0].kind
    none: list[dict[str, str]] = [{} for _ in sources]
    if kind == "generated":
        rows = padded_rows(len(sources), batch_size)
        streams = padded_streams([(s.name, None, 0) for s in sources], batch_size, seed)
        conditions = [sources[i].condition for i in rows]
        clean = model.generate(conditions, streams)
        planted = _planted(model, conditions, streams, len(sources))
    elif kind == "dataset":
        clean, planted = _items(model, [s.item for s in sources])
    elif kind == "images":
        clean = _encoded(model, sources, batch_size)
        planted = [dict(s.facts) for s in sources]
    else:
        assert given is not None  # "given" is planned from given samples only
        clean, planted = given[[s.item for s in sources]], none
    clean = torch.as_tensor(clean).detach().to(device="cpu", dtype=torch.float32)
    clean = clean[: len(sources)]
    wanted = (len(sources), *model.sample_shape)
    if tuple(clean.shape) != wanted:
        raise InputError(
            "sources have the wrong shape", got=tuple(clean.shape), wanted=str(wanted)
        )
    return clean.contiguous(), planted


def _planted(
    model: Model, conditions: Sequence[str | None], streams: Sequence[UnitStreams], num: int
) -> list[dict[str, str]]:
    """The truth about generated samples, from a model that knows it (as a mixture does)."""
    tell = getattr(model, "planted", None)
    columns = tell(conditions, streams) if callable(tell) else {}
    return [{name: str(values[row]) for name, values in columns.items()} for row in range(num)]


def dataset_of(model: Model) -> Any:
    """The model's data set.

    Args:
        model: The model.

    Returns:
        Its data set.

    Raises:
        InputError: If it has none.
    """
    make = getattr(model, "dataset", None)
    data = make() if callable(make) else make
    if data is None:
        raise InputError(
            f"model {model.name!r} has no data set",
            wanted="a model that brings one",
            next_step='use sources of kind "generated" or "images"',
        )
    return data


def _items(model: Model, items: list[int]) -> tuple[Any, list[dict[str, str]]]:
    data = dataset_of(model)
    planted = {str(k): np.asarray(v) for k, v in getattr(data, "planted", {}).items()}
    return data.clean(items), [{k: str(v[i]) for k, v in planted.items()} for i in items]


def _encoded(model: Model, sources: Sequence[Source], batch_size: int) -> Any:
    """Images through the model's encoder, at the fixed shape."""
    import torch

    from critwin.experiments.padding import padded_rows

    encode = getattr(model, "encode", None)
    if not callable(encode):
        raise InputError(
            f"model {model.name!r} cannot take images as sources",
            wanted="a model with an encoder",
            next_step='use sources of kind "generated" or "dataset"',
        )
    shape = tuple(model.decode(torch.zeros((1, *model.sample_shape))).shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError("the model does not make images", got=f"samples of shape {shape}")
    images = np.stack(
        [
            read_image(str(s.path), channels=shape[0], size=(shape[1], shape[2]), fit=s.fit)
            for s in sources
        ]
    )
    return encode(torch.from_numpy(images[padded_rows(len(sources), batch_size)]))


def _text(name: str) -> str:
    """The file's name as text that any store accepts."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _check_count(count: int) -> None:
    if count < 1:
        raise InputError("no sources", got=count, wanted="at least 1 source")
