"""Tiny CLIP, SigLIP and ViT networks with tokenizers, built in code and saved: nothing is fetched.

The weights are random and mean nothing: these folders prove the loading path. What a feature makes
of embeddings is tested on planted ones.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

SIZE = 16
LENGTH = 24


@contextmanager
def no_network() -> Iterator[None]:
    """Any attempt to connect fails."""

    def refuse(*args: Any) -> Any:
        raise AssertionError(f"a connection was tried: {args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "create_connection", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def clip_folder(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """A CLIP network of 16 x 16 pixels that reads letter by letter."""
    import transformers

    letters = [chr(n) for n in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {token: n for n, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=LENGTH)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config={
            **shape,
            "hidden_size": 16,
            "vocab_size": len(vocab),
            "max_position_embeddings": LENGTH,
            "bos_token_id": len(vocab) - 2,
            "eos_token_id": len(vocab) - 1,
            "pad_token_id": len(vocab) - 1,
        },
        vision_config={**shape, "hidden_size": 16, "image_size": SIZE, "patch_size": 8},
        projection_dim=12,
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )
    return _save(folder, transformers.CLIPModel, config, seed, dtype, tokenizer, processor)


def siglip_folder(folder: Path, *, seed: int = 0) -> Path:
    """A SigLIP network of 16 x 16 pixels that reads word by word."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [
        "a",
        "the",
        "photo",
        "of",
        "cat",
        "dog",
        "man",
        "woman",
        "beach",
        "forest",
        "red",
        ".",
    ]
    vocab = {token: n for n, token in enumerate(["</s>", "<unk>", *words])}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        pad_token="</s>",
        eos_token="</s>",
        model_max_length=LENGTH,
    )
    shape = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "hidden_size": 16,
    }
    config = transformers.SiglipConfig(
        text_config={
            **shape,
            "vocab_size": len(vocab),
            "max_position_embeddings": LENGTH,
            "projection_size": 16,
        },
        vision_config={**shape, "image_size": SIZE, "patch_size": 8},
    )
    processor = transformers.SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    network = transformers.SiglipModel
    return _save(folder, network, config, seed, torch.float32, tokenizer, processor)


def vit_folder(
    folder: Path, *, classes: Sequence[str] = ("tabby", "beagle", "pug", "sofa")
) -> Path:
    """A ViT classifier of 16 x 16 pixels."""
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=SIZE,
        patch_size=8,
        id2label=dict(enumerate(classes)),
        label2id={name: n for n, name in enumerate(classes)},
    )
    processor = transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    network = transformers.ViTForImageClassification
    return _save(folder, network, config, 0, torch.float32, processor)


def _save(
    folder: Path, factory: Any, config: Any, seed: int, dtype: torch.dtype, *parts: Any
) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = factory(config)
        for parameter in network.parameters():  # the usual start gives all images one embedding
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    if hasattr(network, "logit_scale"):
        network.logit_scale.data.fill_(2.0)
    if hasattr(network, "logit_bias"):
        network.logit_bias.data.fill_(-3.0)
    for part in (network.to(dtype), *parts):
        part.save_pretrained(folder)
    return folder


class PlantedEncoder:
    """Texts and images with planted unit vectors; an image is known by its first pixel."""

    def __init__(
        self,
        texts: dict[str, Any],
        images: Any = None,
        *,
        scale: float = 100.0,
        bias: float | None = None,
    ) -> None:
        self.texts = {key: np.asarray(value, dtype=np.float64) for key, value in texts.items()}
        self.images = np.zeros((0, 2)) if images is None else np.asarray(images, dtype=np.float64)
        self.scale = scale
        self.bias = bias
        self.fingerprint = f"planted-{scale}-{bias}"
        self.asked: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.asked += texts
        return np.stack([self.texts[text] for text in texts])

    def embed_images(self, samples: Any) -> NDArray[np.float64]:
        return self.images[[round(float(row.flat[0]) * 255) for row in np.asarray(samples)]]


def pictures(num: int) -> NDArray[np.float64]:
    """Images whose first pixel says which one it is."""
    out = np.full((num, 3, 4, 4), 0.5)
    out[:, 0, 0, 0] = np.arange(num) / 255
    return out


def noise_images(num: int, *, seed: int = 0, size: int = SIZE) -> NDArray[np.float64]:
    """Images of coarse random cells, far apart from each other."""
    rng = np.random.Generator(np.random.Philox(seed))
    cells = rng.uniform(size=(num, 3, 4, 4))
    return np.kron(cells, np.ones((1, 1, size // 4, size // 4)))
