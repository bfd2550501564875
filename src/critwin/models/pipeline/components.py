"""Parts of a checked model folder, loaded one by one: safetensors weights, known classes.

Every part is loaded by the class that the catalogue allows, from its own folder, without the
network. Missing weights, numbers that are not finite, and sizes that the weights do not have are
refused, where the libraries would go on with random numbers.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError, is_out_of_memory
from critwin.models._wrapping import function_digest

if TYPE_CHECKING:
    from critwin.models.pipeline.folders import ModelFolder

__all__ = ["build_pipeline", "check_finite", "digest_of_parts", "quiet"]

_LOUD = ("diffusers", "transformers")


def build_pipeline(folder: ModelFolder, dtype: torch.dtype) -> Any:
    """The pipeline of a checked folder, on the CPU, in evaluation mode.

    Args:
        folder: The folder.
        dtype: Precision of its networks. A VAE that overflows in float16 stays in float32.

    Returns:
        The pipeline, of the kind's own class, without safety checker.

    Raises:
        InputError: If a part cannot be loaded.
    """
    diffusers: Any = import_module("diffusers")
    parts: dict[str, Any] = {}
    with quiet():
        for part in folder.components:
            parts[part] = _part(folder, part, dtype)
    for part, value in parts.items():
        if isinstance(value, torch.nn.Module):
            check_finite(part, value)
    for part in (*folder.kind.slots, "safety_checker", "feature_extractor"):
        if part in folder.kind.slots or folder.kind.family == "sd":
            parts.setdefault(part, None)
    options = dict(folder.options)
    if folder.kind.family == "sd":
        options["requires_safety_checker"] = False
    if folder.kind.family == "sdxl":
        options["add_watermarker"] = False
    with quiet(), _explained(f"the parts of {folder.root.name!r} do not fit together"):
        return getattr(diffusers, folder.kind.pipeline)(**parts, **options)


def check_finite(part: str, module: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        part: Name of the part.
        module: The part.

    Raises:
        InputError: If a weight is not finite; the message names its tensor.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(
                f"the weights of {part!r} are not finite",
                got=f"NaN or infinity in {name}",
                next_step="download the model again, or load it in another precision",
            )


def digest_of_parts(pipe: Any, parts: Mapping[str, Any]) -> list[list[str]]:
    """Digests of the parts of a pipeline that was made elsewhere.

    Args:
        pipe: The pipeline.
        parts: Names of the parts that count.

    Returns:
        ``[part, digest]`` each: of weights and configuration, or of a tokenizer's tables.
    """
    out = []
    for part in sorted(parts):
        value: Any = getattr(pipe, part, None)
        if isinstance(value, torch.nn.Module):
            config = sorted((str(k), str(v)) for k, v in _config_of(value).items())
            out.append([part, function_digest(value), json.dumps(config), *_settings_of(value)])
        elif hasattr(value, "backend_tokenizer"):
            out.append([part, type(value).__name__, value.backend_tokenizer.to_str()])
    return out


def _config_of(module: Any) -> Mapping[str, Any]:
    config = getattr(module, "config", {})
    found = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {k: v for k, v in found.items() if not str(k).startswith("_")}


def _settings_of(module: torch.nn.Module) -> list[str]:
    """Numbers and words that parts of a network were set to, such as the scales of FreeU."""
    found = []
    for name, part in module.named_modules():
        for key, value in sorted(vars(part).items()):
            if key.startswith("_") or key == "training":
                continue
            if isinstance(value, bool | int | float | str):
                found.append(f"{name}.{key} = {value!r}")
            elif key == "processor":
                found.append(f"{name}.{key} is {type(value).__name__}")
    return found


def _part(folder: ModelFolder, part: str, dtype: torch.dtype) -> Any:
    name = folder.components[part]
    where = folder.root / part
    library: Any = import_module(folder.kind.slots[part].library)
    made = getattr(library, name, None)
    with _explained(f"component {part!r} of {folder.root.name!r} cannot be loaded"):
        if made is None:
            raise ValueError(f"{name} is not in {library.__name__} {library.__version__}")
        if "Tokenizer" in name:
            return made.from_pretrained(str(where), local_files_only=True)
        if part == "scheduler":
            content = json.loads((where / "scheduler_config.json").read_text(encoding="utf-8"))
            return made.from_config(content)
        return _network(folder, part, made, dtype)


def _network(folder: ModelFolder, part: str, made: Any, dtype: torch.dtype) -> torch.nn.Module:
    where, library = folder.root / part, folder.kind.slots[part].library
    config = json.loads((where / "config.json").read_text(encoding="utf-8"))
    _check_size(folder, part, made, config)
    if part == "vae" and dtype == torch.float16 and config.get("force_upcast"):
        dtype = torch.float32
    asked: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "variant": folder.variants[part],
        "output_loading_info": True,
    }
    if library == "diffusers":
        asked |= {"torch_dtype": dtype, "low_cpu_mem_usage": find_spec("accelerate") is not None}
    else:
        asked["dtype"] = dtype
    module, info = made.from_pretrained(str(where), **asked)
    if missing := sorted(info.get("missing_keys", ())):
        raise InputError(
            f"the weights of {part!r} are not whole",
            got=f"{len(missing)} tensors are missing, {missing[0]} among them",
            next_step="download the model again",
        )
    result: torch.nn.Module = module.eval().requires_grad_(False)
    return result


def _check_size(folder: ModelFolder, part: str, made: Any, config: Mapping[str, Any]) -> None:
    """A configuration may not ask for more numbers than the weights can hold."""
    weights = [n for n in folder.files[part] if n.endswith(".safetensors")]
    num_bytes = sum((folder.root / n).stat().st_size for n in weights)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        if folder.kind.slots[part].library == "diffusers":
            empty = made.from_config(dict(config))
        else:
            empty = made(made.config_class.from_dict(dict(config)))
    num = sum(parameter.numel() for parameter in empty.parameters())
    if num > num_bytes:
        raise InputError(
            f"the configuration of {part!r} does not fit its weights",
            got=f"a network of {num} numbers, weights of {num_bytes} bytes",
            next_step="download the model again",
        )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of the libraries about a folder, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damaged files make the libraries raise errors of any kind
        if is_out_of_memory(error):
            raise
        raise InputError(
            what,
            got=f"{type(error).__name__}: {' '.join(str(error).split())}",
            next_step="download the model again, or update diffusers and transformers",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no hints of the libraries while parts are loaded.

    Yields:
        Nothing.
    """
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    bars: Any = import_module("transformers.utils.logging")
    was_shown = bars.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        bars.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about configurations that it mends
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if was_shown:
            bars.enable_progress_bar()
