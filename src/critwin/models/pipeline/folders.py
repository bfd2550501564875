"""A model folder read without trust: its index, its files, what they claim, before anything runs.

Only safetensors weights are read, only classes of the catalogue are looked up, and only the files
of known components are opened. Whatever else lies in the folder (Python files above all) is not
touched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from critwin.errors import InputError
from critwin.models.pipeline.catalogue import IGNORED, PIPELINES, SCHEDULER, Kind

__all__ = ["INDEX", "ModelFolder", "component_files", "read_folder", "read_index", "sha256_of"]

INDEX = "model_index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_SIDE_FILES = (".json", ".txt", ".model")
_MAX_JSON = 64 * 2**20
_MAX_HEADER, _MAX_TENSORS = 16 * 2**20, 50_000
_MAX_NUMBER, _MAX_LAYERS = 10**6, 1000
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
_VARIANT = re.compile(r"\.([^./]+?)(?:-\d+-of-\d+)?\.safetensors$")
_SINGLE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelFolder:
    """A folder that holds a pipeline, checked.

    Attributes:
        root: The folder.
        kind: Kind of the pipeline.
        components: Component -> name of its class.
        files: Component -> names of the files it is made of, relative to the folder.
        variants: Component -> variant of its weights, or None.
        options: What else of the index the pipeline takes.
    """

    root: Path
    kind: Kind
    components: Mapping[str, str]
    files: Mapping[str, tuple[str, ...]]
    variants: Mapping[str, str | None]
    options: Mapping[str, Any]


def read_folder(root: Path, variant: str | None = None) -> ModelFolder:
    """Check a model folder.

    Args:
        root: The folder.
        variant: Variant of the weights (``"fp16"``), where a component has it.

    Returns:
        What can be loaded from it.

    Raises:
        InputError: If it is not there, not whole, or holds what must not be loaded.
    """
    _check_path(root)
    kind, components, options = read_index(_json(root / INDEX))
    names = [
        f"{part}/{file.name}"
        for part in components
        if (root / part).is_dir()
        for file in sorted((root / part).iterdir())
        if file.is_file()
    ]
    files, variants = {}, {}
    for part in components:
        files[part], variants[part] = component_files(names, part, components[part], variant)
        for name in files[part]:
            _check_file(root, name)
    if variant is not None and not any(found == variant for found in variants.values()):
        others = sorted({m[1] for name in names if (m := _VARIANT.search(name))})
        raise InputError(
            "no part of the model has this variant",
            got=variant,
            wanted="one of " + ", ".join(others) if others else "no variant: there is none",
            next_step="leave `variant` out",
        )
    return ModelFolder(
        root=root,
        kind=kind,
        components=components,
        files=files,
        variants=variants,
        options=options,
    )


def read_index(index: Any) -> tuple[Kind, dict[str, str], dict[str, Any]]:
    """Check a model index.

    Args:
        index: Its content.

    Returns:
        Kind of the pipeline, component -> class, and what else the pipeline takes.

    Raises:
        InputError: If it names what is not in the catalogue.
    """
    named = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(named, str) or named not in PIPELINES:
        raise InputError(
            "this kind of pipeline cannot be loaded",
            got=f"{INDEX} names {named!r}",
            wanted="one of " + ", ".join(PIPELINES),
            next_step="load it with diffusers, if you trust it, and wrap its network in "
            "critwin.Denoiser",
        )
    kind = PIPELINES[named]
    found: dict[str, str] = {}
    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list):
            continue
        library, name = (*entry, None, None)[:2]
        if library is None and name is None:
            continue
        _check_entry(kind, part, library, name)
        if part not in IGNORED:
            found[part] = str(name)
    missing = [p for p, slot in kind.slots.items() if slot.is_needed and p not in found]
    if missing:
        raise InputError(
            f"{INDEX} lacks a component of {named}",
            got=", ".join(sorted(found)) or "none",
            wanted=", ".join(missing),
            next_step="download the model again",
        )
    return kind, found, {key: index[key] for key in kind.options if key in index}


def component_files(
    names: Sequence[str], part: str, class_name: str, variant: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Files that a component is made of.

    Args:
        names: Names of all files, relative to the folder.
        part: The component.
        class_name: Its class.
        variant: Variant of the weights that is asked for.

    Returns:
        Names of its files, and the variant that its weights have.

    Raises:
        InputError: If it has no weights that may be loaded.
    """
    own = [n for n in names if PurePosixPath(n).parent.as_posix() == part]
    side = [n for n in own if n.endswith(_SIDE_FILES) and ".index." not in n]
    if not side:
        raise InputError(
            f"component {part!r} of the model is missing",
            wanted=f"a folder {part}/ with its configuration",
            next_step="download the model again",
        )
    if "Tokenizer" in class_name or "Scheduler" in class_name:
        return tuple(side), None
    for choice in (variant, None) if variant else (None,):
        weights = [n for n in own if _is_weights(PurePosixPath(n).name, choice)]
        if weights:
            index = [n for n in own if _is_shard_index(PurePosixPath(n).name, choice)]
            return (*side, *index, *weights), choice
    pickles = [n for n in own if n.endswith(_PICKLES)]
    if pickles:
        raise InputError(
            f"the weights of {part!r} are pickled, and unpickling can run any code",
            got=pickles[0],
            wanted="safetensors weights",
            next_step="take a revision that has them, or convert these in a place you trust: "
            "pipe.save_pretrained(folder, safe_serialization=True)",
        )
    others = sorted({m[1] for n in own if (m := _VARIANT.search(n))})
    raise InputError(
        f"component {part!r} of the model has no weights",
        got=f"variants {', '.join(others)} only" if others else f"no {part}/*.safetensors",
        wanted="safetensors weights",
        next_step=f'set variant = "{others[0]}"' if others else "download the model again",
    )


def sha256_of(folder: ModelFolder) -> dict[str, str]:
    """Digests of all files that the pipeline is made of.

    Args:
        folder: The folder.

    Returns:
        Name -> SHA-256, sorted by name.
    """
    out = {}
    for name in sorted(n for files in folder.files.values() for n in files):
        with (folder.root / name).open("rb") as stream:
            out[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return out


def _check_path(root: Path) -> None:
    if root.is_file():
        is_single = root.suffix.lower() in _SINGLE
        raise InputError(
            "a model is a folder" + (", not a single-file checkpoint" if is_single else ""),
            got=str(root),
            wanted=f"a folder with {INDEX}",
            next_step="convert it: StableDiffusionPipeline.from_single_file(...)"
            ".save_pretrained(folder)"
            if root.suffix.lower() == ".safetensors"
            else None,
        )
    if not root.is_dir():
        raise InputError(
            "there is no such model folder",
            got=str(root),
            wanted=f'a folder with {INDEX}, or the name of a model on the hub, "owner/name"',
            next_step="check the path",
        )
    if not (root / INDEX).is_file():
        raise InputError(
            "not a diffusers model folder",
            got=str(root),
            wanted=f"a folder with {INDEX}",
            next_step="give the folder that save_pretrained wrote, or the hub made",
        )


def _check_entry(kind: Kind, part: str, library: Any, name: Any) -> None:
    slot = kind.slots.get(part)
    if library not in _LIBRARIES:
        raise InputError(
            f"{INDEX} names a module that is not allowed for {part!r}",
            got=f"{library!r}, {name!r}",
            wanted="diffusers or transformers",
            next_step="do not load this folder with anything else unless you trust it",
        )
    if part in IGNORED:
        return
    if slot is None:
        raise InputError(
            f"{INDEX} names a component that {kind.pipeline} does not have",
            got=part,
            wanted="one of " + ", ".join(kind.slots),
        )
    is_scheduler = part == "scheduler" and SCHEDULER.fullmatch(str(name)) is not None
    if library != slot.library or not (name in slot.classes or is_scheduler):
        raise InputError(
            f"{INDEX} names a class that is not allowed for {part!r}",
            got=f"{library!r}, {name!r}",
            wanted=f"{slot.library}: "
            + (", ".join(slot.classes) if slot.classes else "a scheduler"),
        )


def _is_weights(name: str, variant: str | None) -> bool:
    if not name.endswith(".safetensors"):
        return False
    if variant is None:
        return re.fullmatch(r"[^.]+\.safetensors", name) is not None
    return re.fullmatch(rf"[^.]+\.{re.escape(variant)}(-[^.]+)?\.safetensors", name) is not None


def _is_shard_index(name: str, variant: str | None) -> bool:
    ending = ".safetensors.index.json"
    return name.endswith(ending if variant is None else f".safetensors.index.{variant}.json")


def _check_file(root: Path, name: str) -> None:
    if name.endswith(".safetensors"):
        _check_header(root / name, name)
    elif name.endswith(".json"):
        content = _json(root / name)
        if ".index." in name:
            _check_shards(root, name, content)
        elif name.endswith("/config.json"):
            _check_numbers(name, content)


def _json(path: Path) -> Any:
    """Content of a JSON file of a sensible size and depth."""
    shown = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(
                f"{shown} is too large", got=f"{path.stat().st_size} bytes", wanted="at most 64 MB"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{shown} cannot be read",
            got=f"{type(error).__name__}: {error}",
            wanted="a JSON file",
            next_step="download the model again",
        ) from error


def _check_header(path: Path, name: str) -> None:
    """A safetensors file cannot be shorter than its header says."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        is_whole = 8 + length <= size and length <= _MAX_HEADER
        num = stream.read(length).count(b'"dtype"') if is_whole else 0
    if not is_whole or num > _MAX_TENSORS:
        raise InputError(
            f"{name} is damaged",
            got=f"{size} bytes, whose header claims " + (f"{num} tensors" if num else f"{length}"),
            wanted="a safetensors file of a network",
            next_step="download the model again",
        )


def _check_shards(root: Path, name: str, content: Any) -> None:
    mapped = content.get("weight_map") if isinstance(content, dict) else None
    shards = set(mapped.values()) if isinstance(mapped, dict) else {None}
    for shard in shards:
        is_plain = isinstance(shard, str) and re.fullmatch(r"[\w.\-]+\.safetensors", shard)
        if not is_plain:
            raise InputError(
                f"{name} names a file outside its folder", got=shard, wanted="names of its shards"
            )
        if not (root / Path(name).parent / str(shard)).is_file():
            raise InputError(
                "a part of the weights is missing",
                got=f"no {Path(name).parent.as_posix()}/{shard}",
                next_step="download the model again",
            )


def _check_numbers(name: str, content: Any) -> None:
    """Sizes that no network has would fill the memory, or keep a loop busy for ever."""
    pending = [("", content)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending += list(value.items())
        elif isinstance(value, list):
            pending += [(key, item) for item in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            limit = _MAX_LAYERS if "layers" in str(key) else _MAX_NUMBER
            if abs(value) > limit:
                raise InputError(
                    f"{name} has a size that no network has",
                    got=f"{key} = {value}",
                    wanted=f"at most {limit}",
                )
