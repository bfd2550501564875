"""Folders of pretrained networks: found, checked, digested, loaded; data only, never code.

A network is a local folder or a repository of the hub at a revision. Weights are safetensors, the
classes are those of the installed transformers; code that a repository brings is never run, and a
network with weights that are missing or not finite is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch import nn

__all__ = [
    "DEFAULT_ENCODER",
    "Pretrained",
    "choose_device",
    "choose_dtype",
    "find",
    "load_network",
    "loading",
    "read_json",
]

DEFAULT_ENCODER = "openai/clip-vit-large-patch14"
"""The network that features in words use unless another is named."""

_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "model*.safetensors",
    "model.safetensors.index.json",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_MAX_JSON = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A checked folder of a pretrained network.

    Attributes:
        source: Folder or hub id, as given.
        folder: The folder.
        commit: Commit of the hub; None for a folder.
        config: Its ``config.json``.
    """

    source: str
    folder: Path
    commit: str | None
    config: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """``model_type`` of the config."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of everything that is read."""
        total = hashlib.sha256()
        for file in _own_files(self.folder):
            with file.open("rb") as opened:
                total.update(
                    f"{file.name}:{hashlib.file_digest(opened, 'sha256').hexdigest()};".encode()
                )
        return total.hexdigest()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Names, sizes and times of the files: changes when the folder does."""
        found = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _own_files(self.folder)]
        return (str(self.folder.resolve()), *found)


def find(path: str | Path, *, revision: str | None, local_files_only: bool) -> Pretrained:
    """Find a network and check its folder.

    Args:
        path: A folder, or a hub id.
        revision: Branch, tag or commit on the hub.
        local_files_only: Look on this machine only.

    Returns:
        The checked folder.

    Raises:
        InputError: If it cannot be had, or lacks a config or safetensors weights.
    """
    text = str(path)
    place = Path(text).expanduser()
    commit = None
    if place.is_dir():
        if revision is not None:
            raise InputError("a local folder has no revisions", got=revision, wanted="none")
    elif place.exists() or not _HUB_ID.fullmatch(text):
        raise InputError(
            "no such folder of a network",
            got=text,
            wanted="a folder with config.json and safetensors, or a hub id like owner/name",
        )
    else:
        place = _download(text, revision, local_files_only)
        commit = place.name
    config = read_json(place / "config.json", text)
    if "quantization_config" in config:
        raise InputError(
            f"{text} is quantised", wanted="the weights in full", got=config.get("model_type")
        )
    _check_weights(place, text)
    return Pretrained(source=text, folder=place, commit=commit, config=config)


def load_network(
    found: Pretrained, factory: Any, *, dtype: torch.dtype, **options: Any
) -> nn.Module:
    """The network of a folder, in evaluation mode on the CPU.

    Args:
        found: The folder.
        factory: A class of transformers.
        dtype: Type of its numbers.
        **options: Further options of ``from_pretrained``.

    Returns:
        The network, no gradients.

    Raises:
        InputError: If weights do not fit, are missing or are not finite.
    """
    import torch

    with loading(found.source):
        network, info = factory.from_pretrained(
            found.folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
            **options,
        )
    if lacking := sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])}):
        raise InputError(
            f"the weights of {found.source} do not fill the network",
            got=f"{len(lacking)} missing, {lacking[0]} among them",
            next_step="get the folder again",
        )
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"weights of {found.source} are not finite", got=key, next_step="get them again"
            )
    made: nn.Module = network.eval().requires_grad_(False)
    return made


def choose_device(device: str) -> torch.device:
    """A device by name, refused if it is not there.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …

    Returns:
        The device.

    Raises:
        InputError: If the name is unknown or there is no such device.
    """
    import torch

    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError("unknown device", got=device, wanted='"cpu" or "cuda"') from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(
            "no such device",
            got=device,
            wanted=f"one of {torch.cuda.device_count()} CUDA devices",
            next_step='use device = "cpu"',
        )
    return chosen


def choose_dtype(dtype: str) -> torch.dtype:
    """A type of numbers by name.

    Args:
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Returns:
        The type.

    Raises:
        InputError: If it is another one.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise InputError("unknown dtype", got=dtype, wanted="one of " + ", ".join(known))
    return known[dtype]


@contextmanager
def loading(source: str, *, doing: str = "cannot be loaded") -> Iterator[None]:
    """Say in one line what the library cannot do; no progress bars, no advice of its own.

    Args:
        source: The network.
        doing: What is being tried, for the message.

    Yields:
        Nothing.

    Raises:
        InputError: Instead of whatever the library raises.
    """
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:  # the library and its parsers raise many kinds
        text = " ".join(str(error).split())
        needs = any(name in text.lower() for name in ("sentencepiece", "protobuf"))
        raise InputError(
            f"{source} {doing}",
            got=f"{type(error).__name__}: {text}",
            next_step="run: pip install 'critwin[siglip]'" if needs else None,
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = name if revision is None else f"{name} at {revision}"
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=list(_FILES),
            )
        )
    except errors.GatedRepoError as error:
        raise InputError(
            f"{at} asks for its licence to be accepted",
            next_step=f"accept it on https://huggingface.co/{name}, then run: hf auth login",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            "no such network on the hub, or it is private", got=name, wanted="owner/name"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name} has no such revision", got=revision) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{at} is not on this machine"
            if local_files_only
            else f"{at} is neither on this machine nor to be had from the hub",
            wanted="a local folder, or a network that was downloaded before",
            next_step=f"run once with a connection: hf download {name}",
        ) from error


def _own_files(folder: Path) -> list[Path]:
    return sorted(
        f for f in folder.iterdir() if any(fnmatch(f.name, p) for p in _FILES) and f.is_file()
    )


def read_json(file: Path, source: str) -> dict[str, Any]:
    """A table of a network's folder.

    Args:
        file: The file.
        source: The network, for the message.

    Returns:
        What it says.

    Raises:
        InputError: If it cannot be read, is too large, or is no table.
    """
    try:
        if file.stat().st_size > _MAX_JSON:
            raise InputError(f"{file.name} of {source} is too large", wanted="at most 16 MB")
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{source} has no {file.name} that can be read",
            got=f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}",
            wanted="the folder that save_pretrained writes, or a hub id",
        ) from error
    if not isinstance(raw, dict):
        raise InputError(f"{file.name} of {source} is not a table", got=type(raw).__name__)
    return raw


def _check_weights(folder: Path, source: str) -> None:
    if (folder / "model.safetensors").is_file():
        return
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = read_json(index, source).get("weight_map")
        names = set(weights.values()) if isinstance(weights, dict) else {None}
        for name in names:
            is_plain = isinstance(name, str) and Path(name).name == name
            if not is_plain or not (folder / str(name)).is_file():
                raise InputError(
                    f"a part of the weights of {source} is missing",
                    got=name,
                    next_step="get the folder again",
                )
        return
    pickled = sorted(f.name for f in folder.iterdir() if any(fnmatch(f.name, p) for p in _PICKLES))
    if pickled:
        raise InputError(
            f"{source} has no safetensors weights",
            got=f"{pickled[0]}, which can hold code",
            wanted="model.safetensors",
            next_step="use a revision that has them, or convert it: load it in transformers where "
            "you trust it and call save_pretrained",
        )
    raise InputError(f"{source} has no weights", wanted="model.safetensors")
