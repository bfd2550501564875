"""Starting the run that a privacy audit of two folders needs; the same call goes on with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._images import image_files
from critwin._texts import unknown_name
from critwin.audits.membership import FEWEST
from critwin.audits.overlap import (
    Images,
    check_alike,
    check_overlap,
    find_overlap,
    images_of_folder,
)
from critwin.audits.privacy import LEVELS
from critwin.errors import InputError
from critwin.features.neighbours import Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.experiments.measuring import Progress
    from critwin.models.base import Model
    from critwin.runs.executor import RunOutcome

__all__ = ["COLUMNS", "TwoFolders", "start_run"]

COLUMNS = ("member", "file")
"""What is known of every image of a started run."""


class TwoFolders:
    """A model whose data set is the images of two folders, members first.

    Everything else is the model's own.

    Attributes:
        fingerprint: The model's, and that of the images.
        members: The members.
        nonmembers: The non-members.

    Args:
        model: The model.
        members: The members.
        nonmembers: The non-members.
        batch_size: Number of rows of every batch that is encoded.
    """

    def __init__(self, model: Model, members: Images, nonmembers: Images, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size
        self.members, self.nonmembers = members, nonmembers
        digest = hashlib.sha256(str(model.fingerprint).encode())
        for side in (members, nonmembers):
            digest.update(repr(side.names).encode())
            digest.update(np.ascontiguousarray(side.pixels).tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.members) + len(self.nonmembers)

    def dataset(self) -> TwoFolders:
        """The images as sources."""
        return self

    @cached_property
    def planted(self) -> Mapping[str, NDArray[np.str_]]:
        """``member`` (yes or no) and ``file`` of every image."""
        names = [f"members/{name}" for name in self.members.names]
        names += [f"nonmembers/{name}" for name in self.nonmembers.names]
        said = ["yes"] * len(self.members) + ["no"] * len(self.nonmembers)
        return {"member": np.array(said), "file": np.array(names)}

    @property
    def strata(self) -> NDArray[np.str_]:
        """Members and non-members are dealt in turn."""
        return self.planted["member"]

    def clean(self, items: Sequence[int]) -> Tensor:
        """Clean samples as the model works with them.

        Args:
            items: Positions, length M.

        Returns:
            Shape ``(M, *sample_shape)``.
        """
        import torch

        from critwin.experiments.padding import padded_rows

        rows = torch.from_numpy(self.pixels[list(items)])
        encode = getattr(self._model, "encode", None)
        if not callable(encode):
            raise InputError(
                f"model {self._model.name!r} cannot take images from files",
                wanted="a model with an encoder",
            )
        parts = []
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            encoded = encode(part[padded_rows(len(part), self._batch_size)])
            parts.append(torch.as_tensor(encoded)[: len(part)])
        return torch.cat(parts)

    @cached_property
    def pixels(self) -> NDArray[np.float32]:
        """All images in [0, 1], members first."""
        return np.concatenate([self.members.pixels, self.nonmembers.pixels])


def start_run(
    model: str,
    members: str | Path,
    nonmembers: str | Path,
    out: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    levels: Sequence[float] = LEVELS,
    replicates: int = 1,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[RunOutcome, TwoFolders]:
    """Measure a model on the images of two folders, in a run folder.

    Args:
        model: Name of the model.
        members: Folder of images that it was trained on.
        nonmembers: Folder of images that it was not trained on.
        out: The run folder; one of the same call is gone on with.
        options: Options of the model.
        levels: OU times.
        replicates: Fresh noises and reversals of an image at a level.
        steps: Steps of the whole schedule; the model's own unless given.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch.
        threads: Threads of torch.
        progress: Called after each batch.
        say: Called with lines that the user should see.

    Returns:
        What was done, and the model with the images as its data set.

    Raises:
        InputError: If a folder is empty or cannot be read, or the sets overlap or differ in
            preparation; nothing is written then.
    """
    from critwin.features.colour import BrightnessFeature
    from critwin.models.registry import list_models, load_model
    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment

    if model not in (known := list_models()):
        raise unknown_name("model", model, known)
    if Path(members).resolve() == Path(nonmembers).resolve():
        raise InputError(
            "members and non-members are the same folder",
            got=str(members),
            wanted="a folder of each",
        )
    for folder, what in ((members, "members"), (nonmembers, "non-members")):
        _check_folder(folder, what)
    import torch

    engine = load_model(model, **dict(options or {}))
    shape = tuple(engine.decode(torch.zeros((1, *engine.sample_shape))).shape[1:])
    sides = [
        images_of_folder(folder, shape=shape, what=what)
        for folder, what in ((members, "members"), (nonmembers, "non-members"))
    ]
    check_alike(*sides)
    check_overlap(find_overlap(*sides))
    wrapped: Any = TwoFolders(engine, sides[0], sides[1], batch_size)
    denoise: dict[str, Any] = {"condition": "none"}
    if steps is not None:
        denoise["steps"] = steps
    config = parse_config(
        {
            "run": {"out": str(out), "seed": seed, "batch_size": batch_size, "images": 4},
            "model": {"name": model, **dict(options or {})},
            "sources": {"kind": "dataset", "count": len(wrapped)},
            "denoise": denoise,
            "levels": {"unit": "t", "values": [float(level) for level in levels]},
            "experiment": {"name": "forward_reverse", "replicates": replicates},
            "feature": [{"name": "brightness"}],
        }
    )
    outcome = run_experiment(
        config,
        out=out,
        model=wrapped,
        features=[BrightnessFeature()],
        comparisons=[Neighbours(wrapped.pixels)],
        threads=threads,
        progress=progress,
        say=say,
    )
    return outcome, wrapped


def _check_folder(folder: str | Path, what: str) -> None:
    """Refuse a folder without enough images before a model is loaded."""
    num = len(image_files(folder))
    if num == 0:
        raise InputError(
            f"the folder of {what} holds no images",
            got=str(folder),
            wanted="a folder with PNG or JPEG files",
        )
    if num < FEWEST:
        raise InputError(
            f"too few {what}: the level is chosen on one half and reported on the other",
            got=f"{num} in {folder}",
            wanted=f"at least {FEWEST}",
        )
