"""Diffusion pipelines as models: from a local folder, from the hub, or made already."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError
from critwin.models.pipeline.catalogue import PIPELINES, Kind
from critwin.models.pipeline.choices import check_switches, choose_scheduler, guidance_notes
from critwin.models.pipeline.components import build_pipeline, digest_of_parts
from critwin.models.pipeline.folders import read_folder, sha256_of
from critwin.models.pipeline.hub import fetch, is_hub_id
from critwin.models.pipeline.model import PipelineModel
from critwin.models.pipeline.placement import Placement, device_of, dtype_of
from critwin.models.pipeline.probe import check_prediction_type
from critwin.models.pipeline.transformers import DiTFamily, FluxFamily, SD3Family
from critwin.models.pipeline.unets import PixelFamily, StableFamily, XLFamily

if TYPE_CHECKING:
    from critwin.models.pipeline.families import Family

__all__ = ["STEPS", "load_pipeline"]

STEPS = 50
"""Steps of a whole reversal unless told otherwise."""

_FAMILIES: Mapping[str, Callable[..., Family]] = {
    "sd": StableFamily,
    "sdxl": XLFamily,
    "sd3": SD3Family,
    "flux": FluxFamily,
    "ddpm": PixelFamily,
    "dit": DiTFamily,
}
_READS_T5 = ("sd3", "flux")


def load_pipeline(
    path: str | Path | Any,
    *,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
    steps: int = STEPS,
    scheduler: str | None = None,
    scheduler_options: Mapping[str, Any] | None = None,
    reversal: str | None = None,
    guidance: float | None = None,
    true_guidance: float | None = None,
    guidance_interval: Sequence[float] | None = None,
    negative: str | None = None,
    height: int | None = None,
    width: int | None = None,
    max_sequence_length: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    offload: str = "none",
    vae_tiling: bool = False,
    vae_slicing: bool = False,
    compile: bool = False,
    probe: bool | None = None,
    name: str | None = None,
) -> PipelineModel:
    """A diffusers pipeline as a model.

    Safetensors weights only, no code of the folder's own, no safety checker.

    Args:
        path: A local folder, the name of a model on the hub (``"owner/name"``), or a pipeline
            that was made already; that one stays where it is, in its own precision.
        revision: Branch, tag or commit on the hub; the commit is recorded.
        variant: Variant of the weights, such as ``"fp16"``, for the parts that have it.
        local_files_only: Whether only what was fetched from the hub before is used.
        steps: Number of steps of the whole schedule; it fixes the levels.
        scheduler: Name of a diffusers scheduler to take instead of the pipeline's own, with its
            configuration. A pipeline's own scheduler that cannot start from a level (PNDM) is
            replaced by DDIM, which ``notes`` of the model says.
        scheduler_options: Options of that scheduler, such as ``use_karras_sigmas``.
        reversal: The way that comes first, ``"stochastic"`` or ``"ode"``, where the scheduler
            has both (DDIM: eta 1 and 0); it also generates.
        guidance: Guidance scale; the default of the pipeline's own call unless given. From 0 to
            1: the plain prediction under the condition, as in that call.
        true_guidance: Guidance by two predictions of a network that takes ``guidance`` as an
            input (FLUX's ``true_cfg_scale``).
        guidance_interval: ``[t_low, t_high]``, OU times between which two predictions are taken.
        negative: Negative prompt.
        height: Rows of the images; the pipeline's own unless given.
        width: Columns of the images.
        max_sequence_length: Tokens that a T5 encoder reads; the pipeline's own unless given.
        dtype: ``"float32"`` (if None), ``"float16"`` or ``"bfloat16"``.
        device: Where networks run; the CPU if None.
        offload: ``"none"``; ``"model"``: parts that are not in use wait on the CPU;
            ``"sequential"``: layer by layer, with ``accelerate``.
        vae_tiling: Whether the VAE works tile by tile; it changes pixels at their borders.
        vae_slicing: Whether the VAE works image by image.
        compile: Whether the network is compiled by ``torch.compile``, for one batch shape.
        probe: Whether to try what the network predicts and refuse a configuration that is wrong;
            one evaluation for most networks, about forty for those that predict v. None: for a
            folder and a model of the hub, not for a pipeline that was made already. What was found
            and what it cost is among the model's ``notes``; see
            :mod:`critwin.models.pipeline.probe`.
        name: Name of the model; that of the folder or of the hub unless given.

    Returns:
        The model.

    Raises:
        InputError: If the model cannot be had or loaded, or an option cannot be used.
        MissingExtraError: If an option needs a package that is not installed.
    """
    check_switches(
        local_files_only=local_files_only,
        vae_tiling=vae_tiling,
        vae_slicing=vae_slicing,
        compile=compile,
        probe=probe,
    )
    is_made = not isinstance(path, str | Path)
    labels: Mapping[Any, str] | None = None
    if is_made:
        given = {
            "revision": revision,
            "variant": variant,
            "local_files_only": local_files_only,
            "dtype": dtype,
            "device": device,
            "offload": offload != "none",
            "vae_tiling": vae_tiling,
            "vae_slicing": vae_slicing,
            "compile": compile,
        }
        pipe, kind = _adopted(path, [key for key, value in given.items() if value])
        placement = Placement(torch.device(pipe._execution_device))
        identity: list[Any] = digest_of_parts(pipe, kind.slots)
        provenance: dict[str, Any] = {"source": f"{type(path).__name__} object"}
        shown = str(getattr(path, "_name_or_path", "") or "") or type(path).__name__
        notes = ["the pipeline was made elsewhere: device and precision are its own"]
    else:
        where = device_of(device)
        precision = dtype_of(dtype)
        placement = Placement(where, offload)
        root, commit, shown = _located(str(path), revision, variant, local_files_only)
        folder = read_folder(root, variant)
        kind, labels = folder.kind, folder.options.get("id2label")
        pipe = build_pipeline(folder, precision)
        _tune(pipe, vae_tiling=vae_tiling, vae_slicing=vae_slicing)
        placement.settle(pipe)
        files = sha256_of(folder)
        identity = [sorted(files.items()), variant, str(precision)]
        provenance = {
            "source": shown if commit else "local folder",
            "revision": revision,
            "commit": commit,
            "files": files,
        }
        notes = ["the safety checker is off"] if kind.family == "sd" else []
        if offload != "none" and where.type == "cpu":
            notes.append(f'offload = "{offload}" has no effect on the CPU')
        if kind.family != "ddpm" and pipe.vae.dtype != precision:
            notes.append("the VAE stays in float32: it overflows in float16")
    own = choose_scheduler(pipe.scheduler, scheduler, scheduler_options or {}, kind.family)
    sizes: dict[str, Any] = {"height": height, "width": width}
    if kind.family == "dit":
        sizes["id2label"] = labels
    if kind.family in _READS_T5:
        sizes["max_sequence_length"] = max_sequence_length
    elif max_sequence_length is not None:
        raise InputError(
            "max_sequence_length is for pipelines with a T5 encoder", got=kind.pipeline
        )
    family = _FAMILIES[kind.family](pipe, **sizes)
    run_as = [placement.device.type, offload, vae_tiling, vae_slicing, compile]
    model = PipelineModel(
        pipe,
        family,
        own.scheduler,
        placement,
        steps=steps,
        guidance=guidance,
        true_guidance=true_guidance,
        guidance_interval=guidance_interval,
        negative=negative,
        reversal=reversal,
        name=name or shown,
        identity=[*identity, run_as, max_sequence_length, list(family.coder.image_shape)],
        provenance=provenance,
        notes=[*notes, *own.notes, *guidance_notes(family, guidance)],
    )
    if probe if probe is not None else not is_made:
        model.add_note(_probed(model))
    if compile:  # after the probe, whose batches have other shapes
        _compile(pipe, family.network)
    return model


def _probed(model: PipelineModel) -> str:
    """What the probe of the prediction type says, in one line."""
    try:
        return check_prediction_type(model).note
    except torch.OutOfMemoryError:
        return "what the network predicts was not tried: the device has no memory for one row"


def _located(
    path: str, revision: str | None, variant: str | None, local_files_only: bool
) -> tuple[Path, str | None, str]:
    """Folder of a model, its commit if it is from the hub, and its name."""
    if "://" in path:
        name = re.search(r"huggingface\.co/([\w.\-]+/[\w.\-]+)", path)
        raise InputError(
            "a model is a folder or a name on the hub, not an address",
            got=path,
            wanted='a folder, or "owner/name"',
            next_step=f'set path = "{name[1]}"' if name else None,
        )
    local = Path(path).expanduser()
    if local.exists() or not is_hub_id(path):
        if revision is not None:
            raise InputError(
                "a revision is for models of the hub", got=revision, next_step=f"{path} is local"
            )
        return local, None, local.resolve().name
    root, commit = fetch(
        path, revision=revision, variant=variant, local_files_only=local_files_only
    )
    return root, commit, path


def _adopted(pipe: Any, options: Sequence[str]) -> tuple[Any, Kind]:
    """A pipeline that was made elsewhere, as the class that knows its family's call."""
    names = [base.__name__ for base in type(pipe).__mro__]
    known = next((name for name in names if name in PIPELINES), None)
    if known is None:
        raise InputError(
            "not a pipeline that can be measured",
            got=type(pipe).__name__,
            wanted="one of " + ", ".join(PIPELINES),
            next_step="wrap its network in critwin.Denoiser",
        )
    if options:
        raise InputError(
            "options of loading for a pipeline that is made already",
            got=", ".join(options),
            next_step="set them on the pipeline, before",
        )
    kind = PIPELINES[known]
    if kind.pipeline not in names:
        diffusers: Any = import_module("diffusers")
        parts = {part: getattr(pipe, part, None) for part in kind.slots}
        extra: dict[str, Any] = {}
        if kind.family == "sd":
            extra = {
                "safety_checker": None,
                "feature_extractor": None,
                "requires_safety_checker": False,
            }
        pipe = getattr(diffusers, kind.pipeline)(**parts, **extra)
    missing = [
        part
        for part, slot in kind.slots.items()
        if slot.is_needed and getattr(pipe, part, None) is None
    ]
    if missing:
        raise InputError(f"the pipeline lacks {', '.join(missing)}", got=type(pipe).__name__)
    for part in kind.slots:
        value = getattr(pipe, part, None)
        if isinstance(value, torch.nn.Module):
            value.eval()
    return pipe, kind


def _tune(pipe: Any, *, vae_tiling: bool, vae_slicing: bool) -> None:
    vae = getattr(pipe, "vae", None)
    for is_asked, name in ((vae_tiling, "tiling"), (vae_slicing, "slicing")):
        switch = getattr(vae, f"enable_{name}", None)
        if is_asked and switch is None:
            raise InputError(
                f"vae_{name} needs a VAE that can do it",
                got="no VAE" if vae is None else type(vae).__name__,
            )
        if is_asked and switch is not None:
            switch()


def _compile(pipe: Any, network: str) -> None:
    """Compile the network; batches have one shape, so one graph is enough."""
    setattr(pipe, network, torch.compile(getattr(pipe, network), dynamic=False))
