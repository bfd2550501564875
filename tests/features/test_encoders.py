"""Tiny CLIP and SigLIP folders through the public path, against transformers' own answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from critwin.errors import InputError
from critwin.features import checked_read, load_encoder, load_feature
from tiny_clip import clip_folder, no_network, noise_images, siglip_folder, vit_folder

TEXTS = ["a photo of a cat.", "the red forest"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {"clip": clip_folder(root / "clip"), "siglip": siglip_folder(root / "siglip")}


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with no_network():
        yield


def pixels(images: Any) -> list[Image.Image]:
    array = np.rint(255 * images).astype(np.uint8).transpose(0, 2, 3, 1)
    return [Image.fromarray(row) for row in array]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_and_law_are_those_of_transformers(folders: dict[str, Path], kind: str) -> None:
    import transformers

    network = transformers.AutoModel.from_pretrained(folders[kind], dtype=torch.float32)
    named = {"clip": "CLIPImageProcessorPil", "siglip": "SiglipImageProcessorPil"}[kind]
    processor = getattr(transformers, named).from_pretrained(folders[kind])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    images = noise_images(3)
    tokens = tokenizer(TEXTS, padding="max_length", return_tensors="pt")
    if kind == "siglip":
        del tokens["attention_mask"]
    with torch.no_grad():
        answer = network(**tokens, **processor(images=pixels(images), return_tensors="pt"))
    encoder = load_encoder(folders[kind], local_files_only=True)
    np.testing.assert_allclose(encoder.embed_images(images), answer.image_embeds, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), answer.text_embeds, atol=1e-6)
    feature = load_feature(
        "zero-shot", path=str(folders[kind]), labels=TEXTS, templates=["{}"], local_files_only=True
    )
    reading = checked_read(feature, images)
    logits = answer.logits_per_image.double().numpy()
    law = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reading.probs, law, atol=1e-6)
    if kind == "siglip":
        match = 1 / (1 + np.exp(-logits.max(axis=1)))
        np.testing.assert_allclose(reading.values["match"], match, atol=1e-6)
    assert reading.indices.tolist() == logits.argmax(axis=1).tolist()


def test_rows_and_texts_do_not_see_each_other(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["clip"], batch_size=4)
    images = noise_images(7)
    whole = encoder.embed_images(images)
    for rows in ([3], [6, 3], [6, 5, 4, 3, 2, 1, 0]):
        np.testing.assert_array_equal(encoder.embed_images(images[rows]), whole[rows])
    texts = ["cat", "a much longer text", "dog"]
    np.testing.assert_array_equal(encoder.embed_texts(texts)[[2]], encoder.embed_texts([texts[2]]))
    assert encoder.embed_images(images[:0]).shape == (0, 12)


def test_grey_images_and_tensors_are_read(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["clip"])
    grey = noise_images(2)[:, :1]
    rgb = np.repeat(grey, 3, axis=1)
    np.testing.assert_array_equal(encoder.embed_images(grey), encoder.embed_images(rgb))
    np.testing.assert_array_equal(
        encoder.embed_images(torch.from_numpy(rgb)), encoder.embed_images(rgb)
    )
    with pytest.raises(InputError, match=r"got 4 channels; wanted 1 or 3"):
        encoder.embed_images(np.zeros((1, 4, 16, 16)))
    with pytest.raises(InputError, match=r"must be in \[0, 1\]"):
        encoder.embed_images(np.full((1, 3, 16, 16), 255.0))


def test_features_of_one_network_share_it_and_its_work(folders: dict[str, Path]) -> None:
    first = load_feature("zero-shot", path=str(folders["clip"]), labels=["a cat", "a dog"])
    second = load_feature(
        "zero-shot", path=str(folders["clip"]), labels=["a beach", "a wood"], called="place"
    )
    encoder = first.encoder
    assert encoder is second.encoder
    before = encoder.num_texts, encoder.num_images
    images = noise_images(5, seed=9)
    first.read(images)
    second.read(images)
    first.read(images)
    assert (encoder.num_texts, encoder.num_images) == (before[0], before[1] + 5)


def test_a_network_in_half_precision_is_read_in_full(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "half", dtype=torch.float16)
    encoder = load_encoder(folder)
    assert {p.dtype for p in encoder.network.parameters()} == {torch.float32}
    half = load_encoder(folder, dtype="bfloat16")
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    np.testing.assert_allclose(
        half.embed_images(noise_images(2)), encoder.embed_images(noise_images(2)), atol=0.05
    )
    assert half.fingerprint != encoder.fingerprint


def test_the_fingerprint_changes_with_files_and_options(tmp_path: Path) -> None:
    prints = {
        load_encoder(clip_folder(tmp_path / "a")).fingerprint,
        load_encoder(clip_folder(tmp_path / "b", seed=1)).fingerprint,
        load_encoder(siglip_folder(tmp_path / "c")).fingerprint,
        load_encoder(tmp_path / "a", batch_size=4).fingerprint,
    }
    assert len(prints) == 4
    copytree(tmp_path / "a", tmp_path / "same")
    assert load_encoder(tmp_path / "same").fingerprint in prints
    config = json.loads((tmp_path / "a" / "preprocessor_config.json").read_text())
    config["resample"] = 0
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(config))
    assert load_encoder(tmp_path / "a").fingerprint not in prints


def use(folder: Path) -> None:
    encoder = load_encoder(folder, local_files_only=True)
    encoder.embed_images(noise_images(1))
    encoder.embed_texts(["cat"])


def test_a_folder_of_the_first_days_reads_the_same(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """As on the hub: sizes as numbers, a feature extractor, eos 2, vocab.json and merges.txt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders["clip"])
    folder = Path(copytree(folders["clip"], tmp_path / "old"))
    change(folder / "preprocessor_config.json", size=16, crop_size=16, resample=3)
    old = json.loads((folder / "preprocessor_config.json").read_text())
    del old["image_processor_type"]
    old["feature_extractor_type"] = "CLIPFeatureExtractor"
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    change(folder / "config.json", **config)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {"unk_token": "<|endoftext|>", "bos_token": "<|startoftext|>"}
    marks |= {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**marks, "do_lower_case": True}))
    new, first = load_encoder(folders["clip"]), load_encoder(folder)
    images = noise_images(3, size=32)
    np.testing.assert_array_equal(first.embed_images(images), new.embed_images(images))
    np.testing.assert_array_equal(first.embed_texts(["A Cat"]), new.embed_texts(["a cat"]))


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def other_kind(folder: Path) -> None:
    change(folder / "config.json", model_type="bert")


def quantised(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch marker'\ntR.")


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def lacking(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def not_finite(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def misshapen(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"] = torch.zeros(3, 3)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "out.safetensors")
    index = {"metadata": {}, "weight_map": {"logit_scale": "../out.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def with_sentences(folder: Path) -> None:
    if find_spec("sentencepiece") is not None:
        pytest.skip("sentencepiece is installed")
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}')


def few_words(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 20
    change(folder / "config.json", **config)
    state = load_file(folder / "model.safetensors")
    key = "text_model.embeddings.token_embedding.weight"
    state[key] = state[key][:20].contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def wrong_size(folder: Path) -> None:
    change(folder / "preprocessor_config.json", crop_size={"height": 9, "width": 9})


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_config, "has no config.json that can be read: got FileNotFoundError"),
        (broken_config, "has no config.json that can be read: got JSONDecodeError"),
        (list_config, "config.json of .* is not a table: got list"),
        (other_kind, "got bert; wanted a network of kind clip or siglip"),
        (quantised, "is quantised"),
        (without_weights, "has no weights: wanted model.safetensors"),
        (pickled, "has no safetensors weights: got pytorch_model.bin, which can hold code"),
        (truncated, "cannot be loaded: got SafetensorError"),
        (lacking, "do not fill the network: got 1 missing, visual_projection.weight"),
        (not_finite, "are not finite: got visual_projection.weight"),
        (misshapen, "visual_projection.weight|cannot be loaded"),
        (elsewhere, "a part of the weights of .* is missing: got ../out.safetensors"),
        (without_processor, "cannot be loaded: got OSError"),
        (without_tokenizer, "has no tokenizer: wanted tokenizer.json"),
        (with_sentences, r"run: pip install 'critwin\[siglip\]'"),
        (few_words, "cannot read a text: got IndexError"),
        (wrong_size, "cannot read these images"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(copytree(folders["clip"], tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        use(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_code_of_a_folder_is_never_run(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"
    folder = tmp_path / "hostile"
    if kind == "clip":
        copytree(folders["clip"], folder)
    else:
        vit_folder(folder)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').write('x')\nclass Evil: pass\n")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageClassification")
    change(folder / "config.json", auto_map={name: "evil.Evil" for name in names})
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"})
    if kind == "clip":
        change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    name, options = (
        ("zero-shot", {"labels": ["a", "b"]})
        if kind == "clip"
        else (
            "image-classifier",
            {},
        )
    )
    with suppress(InputError):
        load_feature(name, path=str(folder), local_files_only=True, **options)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/no/such/folder", {}, "no such folder of a network"),
        ("owner/name/more", {}, "no such folder of a network"),
        ("owner/name", {"local_files_only": True}, "is not on this machine"),
        ("owner/name", {"local_files_only": True, "revision": "v1"}, "owner/name at v1 is not on"),
        (None, {"revision": "main"}, "a local folder has no revisions"),
        (None, {"device": "cuda:7"}, "no such device: got cuda:7"),
        (None, {"device": "gpu"}, "unknown device: got gpu"),
        (None, {"dtype": "int8"}, "unknown dtype: got int8"),
        (None, {"batch_size": 0}, "batch_size must be positive"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    options: Any,
    message: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(folders["clip"] if path is None else path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", r"owner/name at v1 asks for its licence .*huggingface\.co/owner/name"),
        (
            "RepositoryNotFoundError",
            "no such network on the hub, or it is private: got owner/name",
        ),
        ("RevisionNotFoundError", "owner/name has no such revision: got v1"),
        ("LocalEntryNotFoundError", "neither on this machine nor to be had .*hf download"),
        (None, "neither on this machine nor to be had from the hub"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, message: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(name: str, **options: Any) -> str:
        assert not any(
            "bin" in pattern or "*.py" in pattern for pattern in options["allow_patterns"]
        )
        made = getattr(errors, kind) if kind else OSError
        error = made.__new__(made)
        Exception.__init__(error, "401\nsecond line")
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder("owner/name", revision="v1")
    assert "\n" not in str(caught.value)


def test_a_snapshot_of_the_hub_brings_its_commit(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    copytree(folders["clip"], tmp_path / commit)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path / commit)
    )
    encoder = load_encoder("owner/name", revision="main", batch_size=5)
    assert encoder.commit == commit
    assert encoder.fingerprint == load_encoder(folders["clip"], batch_size=5).fingerprint


def test_texts_are_not_cut_silently(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["clip"])
    with pytest.raises(InputError, match=r"too long for .*got 42 tokens: x+; wanted at most 24"):
        encoder.embed_texts(["x" * 40])
    with pytest.raises(InputError, match="a mark of the tokenizer"):
        encoder.embed_texts(["a<|endoftext|>cat"])
    with pytest.raises(InputError, match="'cat' and 'CAT' are the same to the network"):
        load_feature("zero-shot", path=str(folders["clip"]), labels=["cat", "CAT"])


def test_vectors_that_are_not_finite_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(copytree(folders["clip"], tmp_path / "large"))
    state = load_file(folder / "model.safetensors")
    for key in ("visual_projection.weight", "vision_model.post_layernorm.weight"):
        state[key] *= 1e30
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="returned vectors that are not finite"):
        load_encoder(folder).embed_images(noise_images(1))
