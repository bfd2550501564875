"""Loading the shipped digits models from the files of the package, nothing from anywhere else.

Weights are checked against ``manifest.json`` of their folder. Half-precision weights are used in
single precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from critwin.errors import InputError
from critwin.models.denoiser import Denoiser
from critwin.models.digits.data import DIGIT_LABELS, Variant, check_variant, load_data
from critwin.models.digits.dataset import Part
from critwin.models.digits.model import DigitsModel

__all__ = ["GUIDANCE", "GUIDANCE_INTERVAL", "STEPS", "WEIGHTS", "load_digits"]

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped weights; those of a variant are beside it, ``weights-<variant>``."""

STEPS = 25
"""Network calls of a whole reversal, from pure noise, unless told otherwise."""

GUIDANCE = 2.0
"""Guidance scale that draws good images of a digit, within ``GUIDANCE_INTERVAL`` alone."""

GUIDANCE_INTERVAL = (0.2, 0.7)
"""OU times in which the digit is decided; most inks are before. The card says what is shifted."""

_MANIFEST = "manifest.json"
_UNET = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
_SCHEDULER = "scheduler/scheduler_config.json"


def load_digits(
    *,
    variant: Variant = "main",
    steps: int = STEPS,
    guidance: float | None = None,
    guidance_interval: Sequence[float] | None = None,
    part: Part = "members",
    device: str = "cpu",
    weights: str | Path | None = None,
) -> DigitsModel:
    """The shipped digits model, from the files of the package.

    Without guidance it draws what it learned, and its decisions are measured; good images of a
    digit are drawn with ``guidance=GUIDANCE, guidance_interval=GUIDANCE_INTERVAL``.

    Args:
        variant: ``"main"``; ``"control"``, trained on uniform ink and no repeats; or
            ``"reversed"``, trained on the reversed ink law of every digit.
        steps: Network calls of a whole reversal, from pure noise.
        guidance: Guidance scale of conditional images; None: none.
        guidance_interval: ``[t_low, t_high]``, OU times between which there is guidance; None:
            everywhere.
        part: Which digits the data set offers: ``"members"``, ``"nonmembers"`` or ``"all"``.
        device: Where the network runs.
        weights: Another folder of weights with its own manifest, for example a checkpoint.

    Returns:
        The model.

    Raises:
        InputError: If a file is missing or is not the one that the manifest names, or an option
            cannot be used, or the variant is unknown.
    """
    check_variant(variant)
    name = "digits" if variant == "main" else f"digits-{variant}"
    shipped = WEIGHTS if variant == "main" else WEIGHTS.with_name(f"weights-{variant}")
    folder = shipped if weights is None else Path(weights)
    files = _verified(folder, (*_UNET, _SCHEDULER))
    import diffusers

    untyped: Any = diffusers
    scheduler = untyped.DDPMScheduler.from_config(json.loads(files[_SCHEDULER]))
    network = _network(json.loads(files[_UNET[0]]), files[_UNET[1]])
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError("cannot use this device", got=device, next_step=str(error)) from error
    denoiser = Denoiser(
        network,
        prediction="v",
        shape=(3, 28, 28),
        levels=scheduler,
        time="step",
        conditions=DIGIT_LABELS,
        guidance=guidance,
        guidance_interval=guidance_interval,
        steps=steps,
        name=name,
    )
    return DigitsModel(denoiser, load_data(variant), part=part)


def _network(config: Mapping[str, Any], weights: bytes) -> torch.nn.Module:
    """The UNet in evaluation mode, without a draw from the global generator."""
    import diffusers
    from safetensors.torch import load

    untyped: Any = diffusers
    with torch.random.fork_rng(devices=[]):
        network: torch.nn.Module = untyped.UNet2DModel.from_config(dict(config))
    network.load_state_dict(load(weights))
    return network.eval().requires_grad_(False)


def _verified(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Content of files, each checked against the folder's manifest."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        known: Mapping[str, str] = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the weights of the digits model have no readable manifest",
            got=str(folder / _MANIFEST),
            next_step="reinstall critwin, or run training/digits/make_manifest.py",
        ) from error
    out = {}
    for name in names:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                "a file of the digits model cannot be read",
                got=str(folder / name),
                next_step="reinstall critwin",
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if known.get(name) != found:
            raise InputError(
                f"{name} of the digits model is not the file that was shipped",
                got=f"SHA-256 {found[:16]}…",
                wanted=f"{str(known.get(name))[:16]}…",
                next_step="reinstall critwin, or run training/digits/make_manifest.py if you "
                "trained it yourself",
            )
        out[name] = content
    return out
