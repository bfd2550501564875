"""Model folders that are damaged or hostile: one clear line, and nothing of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from critwin.errors import InputError, is_out_of_memory
from critwin.models.pipeline import load_pipeline

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a good folder that a test may spoil."""
    copy = tmp_path / "model"
    shutil.copytree(tiny("sd"), copy)
    return copy


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_pipeline(folder, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


# --- damaged ------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    refused(
        tmp_path / "nothing",
        "there is no such model folder: got .*nothing; wanted a folder with model_index.json, or "
        'the name of a model on the hub, "owner/name"; check the path',
    )
    for address in ("https://huggingface.co/owner/name", "https://huggingface.co/owner/name/tree"):
        with pytest.raises(InputError, match="not an address: got https://huggingface") as caught:
            load_pipeline(address)
        assert 'set path = "owner/name"' in str(caught.value)
    with pytest.raises(InputError, match="not an address: got s3://bucket/model"):
        load_pipeline("s3://bucket/model")
    refused(tmp_path, "not a diffusers model folder.*wanted a folder with model_index.json")
    single = tmp_path / "model.safetensors"
    single.write_bytes(b"x")
    refused(single, "not a single-file checkpoint.*from_single_file")


def test_weights_that_do_not_fit_into_memory_are_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel

    said = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"

    def full(*args: Any, **options: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", full)
    with pytest.raises(RuntimeError, match="can't allocate") as caught:
        load_pipeline(folder)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    refused(folder, f"component '{part}' of the model is missing: .*download the model again")


def test_missing_weights_and_missing_tensors(folder: Path) -> None:
    weights = load_file(folder / UNET)
    (folder / UNET).unlink()
    refused(folder, r"component 'unet' of the model has no weights: got no unet/\*\.safetensors")
    fewer = {k: v for k, v in weights.items() if k != "conv_in.weight"}
    save_file(fewer, folder / UNET)
    refused(folder, "weights of 'unet' are not whole: got 1 tensors are missing, conv_in.weight")
    save_file(weights | {"conv_in.weight": torch.zeros(8, 4, 1, 1)}, folder / UNET)
    refused(folder, "component 'unet' of 'model' cannot be loaded.*conv_in.weight")
    save_file(weights, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    (folder / UNET).unlink()
    refused(folder, 'got variants fp16 only.*set variant = "fp16"')
    model = load_pipeline(folder, variant="fp16", steps=2)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in model.provenance["files"]
    assert "vae/diffusion_pytorch_model.safetensors" in model.provenance["files"]
    save_file(weights, folder / UNET)
    refused(folder, "has this variant: got fp8; wanted one of fp16", variant="fp8")


def test_a_configuration_that_diffusers_mends_is_no_warning(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Stable Diffusion's own clip_sample is false; a folder may say otherwise."""
    edit(folder / "scheduler/scheduler_config.json", clip_sample=True)
    model = load_pipeline(folder, steps=2)
    assert model.schedule.scheduler.config.clip_sample is False
    assert not [one for one in recwarn if "clip_sample" in str(one.message)]


def test_a_missing_shard(folder: Path) -> None:
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    name = "diffusion_pytorch_model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
    refused(folder, f"a part of the weights is missing: got no unet/{name}")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder: Path, part: str, value: float) -> None:
    path = next((folder / part).glob("*.safetensors"))
    weights = load_file(path)
    name = sorted(k for k, v in weights.items() if v.is_floating_point())[0]
    weights[name].view(-1)[-1] = value
    save_file(weights, path, metadata={"format": "pt"})
    refused(folder, f"the weights of '{part}' are not finite: got NaN or infinity in ")


@pytest.mark.parametrize("length", [0, 7, 8, 50, 5000])
def test_truncated_weights(folder: Path, length: int) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:length])
    refused(folder, "is damaged|cannot be loaded")


def test_broken_json(folder: Path) -> None:
    (folder / "unet/config.json").write_text('{"sample_size": ')
    refused(folder, "unet/config.json cannot be read: got JSONDecodeError")
    (folder / "model_index.json").write_text("[]")
    refused(folder, "this kind of pipeline cannot be loaded: got model_index.json names None")


def test_other_pipelines_and_lacking_parts(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="StableVideoDiffusionPipeline")
    refused(folder, "kind of pipeline cannot be loaded.*StableVideo.*critwin.Denoiser")
    edit(folder / "model_index.json", _class_name="StableDiffusionXLPipeline")
    refused(folder, "lacks a component of StableDiffusionXL.*wanted text_encoder_2, tokenizer_2")
    edit(folder / "model_index.json", _class_name="StableDiffusionPipeline", unet=[None, None])
    refused(folder, "lacks a component of StableDiffusionPipeline.*wanted unet")


def test_a_mismatched_scheduler(folder: Path) -> None:
    edit(folder / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    (folder / "scheduler/scheduler_config.json").write_text("{}")
    refused(folder, "FlowMatchEulerDiscreteScheduler does not fit the pipeline")


# --- hostile ------------------------------------------------------------------------------


def python_in(folder: Path, marker: Path) -> None:
    code = f"import os\nos.mkdir({str(marker)!r})\n"
    for name in ("unet/custom.py", "pipeline.py", "__init__.py", "unet/__init__.py"):
        (folder / name).write_text(code)


def index_entry(**entries: Any) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, marker: Path) -> None:
        python_in(folder, marker)
        edit(folder / "model_index.json", **entries)

    return spoil


def pickled(part: str, name: str) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, marker: Path) -> None:
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        (folder / part / name).write_bytes(pickle.dumps(Bomb(marker)))

    return spoil


def pickle_named_safetensors(folder: Path, marker: Path) -> None:
    (folder / UNET).write_bytes(pickle.dumps(Bomb(marker)))


def shard_outside(folder: Path, marker: Path) -> None:
    shutil.copy(folder / UNET, folder.parent / "outside.safetensors")
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "../../outside.safetensors"}})
    )


def shard_absolute(folder: Path, marker: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "/etc/passwd"}})
    )


def huge_header(folder: Path, marker: Path) -> None:
    (folder / UNET).write_bytes((10**9).to_bytes(8, "little") + b"{}" + b"\0" * 4096)


def many_tensors(folder: Path, marker: Path) -> None:
    header = {
        f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n in range(50_001)
    }
    text = json.dumps(header).encode()
    (folder / UNET).write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 200_004)


def overflowing_shape(folder: Path, marker: Path) -> None:
    header = {"conv_in.weight": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (folder / UNET).write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)


def huge_network(folder: Path, marker: Path) -> None:
    edit(folder / "unet/config.json", block_out_channels=[900_000, 900_000])


def many_layers(folder: Path, marker: Path) -> None:
    edit(folder / "text_encoder/config.json", num_hidden_layers=10**9)


def wide_text(folder: Path, marker: Path) -> None:
    edit(folder / "text_encoder/config.json", hidden_size=400_000, intermediate_size=400_000)


def deep_json(folder: Path, marker: Path) -> None:
    (folder / "tokenizer/tokenizer.json").write_text("[" * 200_000 + "]" * 200_000)


def big_json(folder: Path, marker: Path) -> None:
    with (folder / "tokenizer/tokenizer.json").open("wb") as stream:
        stream.truncate(65 * 2**20)


def remote_tokenizer(folder: Path, marker: Path) -> None:
    python_in(folder, marker)
    (folder / "tokenizer/evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    edit(
        folder / "tokenizer/tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Evil", None]},
        tokenizer_class="Evil",
    )


def remote_config(folder: Path, marker: Path) -> None:
    (folder / "text_encoder/evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    edit(
        folder / "text_encoder/config.json",
        auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"},
        architectures=["Evil"],
    )


HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str | None]] = {
    "os.system": (index_entry(unet=["os", "system"]), "module that is not allowed for 'unet'"),
    "subprocess.Popen": (
        index_entry(safety_checker=["subprocess", "Popen"]),
        "module that is not allowed for 'safety_checker'",
    ),
    "own module": (index_entry(unet=["custom", "Evil"]), "module that is not allowed"),
    "own pipeline": (index_entry(_class_name=["pipeline", "Evil"]), "cannot be loaded"),
    "function of a library": (
        index_entry(tokenizer=["transformers", "pipeline"]),
        "class that is not allowed for 'tokenizer'",
    ),
    "module of a library": (
        index_entry(unet=["diffusers.utils", "get_class_from_dynamic_module"]),
        "module that is not allowed",
    ),
    "scheduler with a path": (
        index_entry(scheduler=["diffusers", "../evilScheduler"]),
        "class that is not allowed for 'scheduler'",
    ),
    "part with a path": (index_entry(**{"../outside": ["diffusers", "UNet2DModel"]}), "component"),
    "pickled unet": (pickled("unet", "diffusion_pytorch_model.bin"), "pickled"),
    "pickled vae": (pickled("vae", "diffusion_pytorch_model.ckpt"), "pickled"),
    "pickled text encoder": (pickled("text_encoder", "pytorch_model.bin"), "pickled"),
    "pickle called safetensors": (pickle_named_safetensors, "is damaged|cannot be loaded"),
    "shard outside": (shard_outside, "names a file outside its folder"),
    "absolute shard": (shard_absolute, "names a file outside its folder"),
    "header of 1 GB": (huge_header, "is damaged"),
    "50,001 tensors": (many_tensors, "is damaged.*50001 tensors"),
    "overflowing shape": (overflowing_shape, "cannot be loaded|does not fit"),
    "huge network": (huge_network, "does not fit its weights"),
    "10^9 layers": (many_layers, "has a size that no network has"),
    "wide text encoder": (wide_text, "does not fit its weights|cannot be loaded"),
    "deep JSON": (deep_json, "tokenizer/tokenizer.json cannot be read"),
    "large JSON": (big_json, "tokenizer/tokenizer.json is too large"),
    "tokenizer with code": (remote_tokenizer, None),
    "text encoder with code": (remote_config, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders_run_nothing(case: str, folder: Path, tmp_path: Path) -> None:
    spoil, message = HOSTILE[case]
    marker = tmp_path / "marker"
    spoil(folder, marker)
    before = {path for path in tmp_path.rglob("*") if "model" not in path.parts[-3:]}
    if message is None:  # it loads: what it brings of its own is never looked at
        assert load_pipeline(folder, steps=2).conditions is None
    else:
        refused(folder, message)
    assert not marker.exists()
    after = {path for path in tmp_path.rglob("*") if "model" not in path.parts[-3:]}
    assert after == before


def test_the_bomb_is_live(tmp_path: Path) -> None:
    """What the tests above lay would go off if it were unpickled."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()
