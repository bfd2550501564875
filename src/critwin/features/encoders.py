"""Networks that put images and texts into one space: CLIP and SigLIP, through transformers.

Images go in as 8-bit RGB, as a saved file would hold them, through the network's own processor in
its PIL backend (the torchvision backend gives other pixels, so the backend is part of the
fingerprint). Every call of the network has the same batch shape; texts go in one by one, padded to
the full length. What is read off a row or a text thus does not depend on the others.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from critwin.errors import InputError
from critwin.features._inputs import check_images
from critwin.features._pretrained import (
    DEFAULT_ENCODER,
    choose_device,
    choose_dtype,
    find,
    load_network,
    loading,
)
from critwin.features.fingerprints import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DEFAULT_ENCODER", "Encoder", "PretrainedEncoder", "load_encoder", "to_bytes"]

_KINDS = {
    "clip": ("CLIPModel", "CLIPImageProcessorPil"),
    "siglip": ("SiglipModel", "SiglipImageProcessorPil"),
}
_TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
_REMEMBERED = 2


@runtime_checkable
class Encoder(Protocol):
    """Images and texts as unit vectors of one space.

    Attributes:
        fingerprint: Digest of everything that changes a vector.
        scale: Factor from cosines to the network's own logits.
        bias: What its sigmoid adds to them; None for a network trained with a softmax.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def bias(self) -> float | None: ...  # noqa: D102

    def embed_images(self, samples: Any) -> NDArray[np.float64]:
        """Unit vectors of images in ``[0, 1]``, shape ``(N, C, H, W)`` to ``(N, D)``."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Unit vectors of texts, shape ``(M, D)``."""
        ...


class PretrainedEncoder:
    """A CLIP or SigLIP network of transformers.

    Args:
        network: ``CLIPModel`` or ``SiglipModel``.
        processor: Its image processor, PIL backend.
        tokenizer: Its tokenizer.
        source: Where it comes from.
        digest: Digest of its files.
        batch_size: Images a call.

    ``num_texts`` and ``num_images`` count what the network has read, ``commit`` is that of the
    hub it comes from, None for a folder.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        tokenizer: Any,
        *,
        source: str,
        digest: str,
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise InputError("batch_size must be positive", got=batch_size)
        self.network = network
        self.source = source
        self.batch_size = int(batch_size)
        self._processor = processor
        self._tokenizer = tokenizer
        self._digest = digest
        config: Any = network.config
        self._kind = str(config.model_type)
        self._length = int(config.text_config.max_position_embeddings)
        own = getattr(config, "projection_dim", None)
        self._dim = int(config.vision_config.hidden_size if own is None else own)
        self._seen: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()
        self.commit: str | None = None
        self.num_texts = 0
        self.num_images = 0

    @property
    def fingerprint(self) -> str:
        """Digest of the files, the backend, the type of numbers and the batch shape."""
        return fingerprint_of(
            "encoder/1",
            files=self._digest,
            backend=str(self._processor.backend),
            dtype=str(self._parameter.dtype),
            device=self._parameter.device.type,
            batch_size=self.batch_size,
        )

    @property
    def scale(self) -> float:
        """Factor from cosines to logits: the exponential of ``logit_scale``."""
        value: Tensor = self.network.logit_scale  # type: ignore[assignment]
        return float(value.double().exp())

    @property
    def bias(self) -> float | None:
        """``logit_bias`` of SigLIP; None for CLIP."""
        value = getattr(self.network, "logit_bias", None)
        return None if value is None else float(value)

    def embed_images(self, samples: Any) -> NDArray[np.float64]:
        """Unit vectors of images; the last few batches are remembered.

        Args:
            samples: Images in ``[0, 1]``, grey or RGB, shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, D)``.

        Raises:
            InputError: If these are no such images, or the network's answer is not finite.
        """
        pixels = to_bytes(samples)
        key = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        if key not in self._seen:
            parts = [
                self._embed(pixels[start : start + self.batch_size])
                for start in range(0, max(len(pixels), 1), self.batch_size)
            ]
            self._seen[key] = np.concatenate(parts)
            self._seen[key].setflags(write=False)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return self._seen[key]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Unit vectors of texts.

        Args:
            texts: M texts.

        Returns:
            Shape ``(M, D)``.

        Raises:
            InputError: If a text is longer than the network reads; none is cut.
        """
        rows = []
        for text in texts:
            with loading(self.source, doing="cannot read a text"), torch.inference_mode():
                inputs = self._tokens(text)
                answer = self.network.get_text_features(**inputs)  # type: ignore[operator]
            rows.append(self._unit(answer.pooler_output))
            self.num_texts += 1
        return np.concatenate(rows)

    def _tokens(self, text: str) -> dict[str, Tensor]:
        ids = self._tokenizer(text)["input_ids"]
        if special := [t for t in self._tokenizer.all_special_tokens if t in text]:
            raise InputError(
                "a text holds a mark of the tokenizer", got=text, wanted=f"no {special[0]}"
            )
        if len(ids) > self._length:
            raise InputError(
                f"a text is too long for {self.source}",
                got=f"{len(ids)} tokens: {text}",
                wanted=f"at most {self._length}",
                next_step="make it shorter; nothing is cut silently",
            )
        padded = self._tokenizer(
            text, padding="max_length", max_length=self._length, return_tensors="pt"
        )
        # SigLIP was trained without a mask
        names = ("input_ids", "attention_mask") if self._kind == "clip" else ("input_ids",)
        return {name: padded[name].to(self._parameter.device) for name in names}

    @property
    def _parameter(self) -> Tensor:
        return next(iter(self.network.parameters()))

    def _embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        num = len(pixels)
        if num == 0:
            return np.zeros((0, self._dim))
        from PIL import Image

        pictures = [Image.fromarray(row) for row in pixels]
        pictures += [pictures[0]] * (self.batch_size - num)
        values = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        own = self._parameter
        try:
            with torch.inference_mode():
                answer = self.network.get_image_features(  # type: ignore[operator]
                    pixel_values=values.to(own.device, own.dtype)
                )
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{self.source} cannot read these images",
                got=f"{tuple(values.shape)}: {str(error).splitlines()[0]}",
                next_step="its preprocessor_config.json does not fit its config.json",
            ) from error
        self.num_images += num
        return self._unit(answer.pooler_output)[:num]

    def _unit(self, rows: Tensor) -> NDArray[np.float64]:
        vectors = rows.detach().cpu().double().numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or np.any(lengths == 0):
            raise InputError(
                f"{self.source} returned vectors that are not finite",
                wanted="finite vectors that are not zero",
                next_step='use dtype = "float32"',
            )
        return np.asarray(vectors / lengths)


def load_encoder(
    path: str | Path = DEFAULT_ENCODER,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
) -> PretrainedEncoder:
    """A CLIP or SigLIP network from a folder or the hub; one that is in use is not loaded again.

    Args:
        path: A folder, or a hub id.
        revision: Branch, tag or commit on the hub.
        local_files_only: Look on this machine only.
        device: ``"cpu"``, ``"cuda"``, …
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        batch_size: Images a call.

    Returns:
        The encoder.

    Raises:
        InputError: If the network cannot be had, is of another kind, or cannot be loaded.
    """
    import transformers

    place, number = choose_device(device), choose_dtype(dtype)
    found = find(path, revision=revision, local_files_only=local_files_only)
    if found.kind not in _KINDS:
        raise InputError(
            f"{found.source} does not put images and texts into one space as critwin knows it",
            got=found.kind or "no model_type",
            wanted="a network of kind " + " or ".join(_KINDS),
        )
    key = (found.stamp, place, number, batch_size)
    if (known := _LOADED.get(key)) is not None:
        return known
    if not any((found.folder / name).is_file() for name in _TOKENIZERS):
        raise InputError(  # transformers would make an empty one
            f"{found.source} has no tokenizer", wanted=" or ".join(_TOKENIZERS)
        )
    network, processor = (getattr(transformers, name) for name in _KINDS[found.kind])
    with loading(found.source):
        images = processor.from_pretrained(found.folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            found.folder, local_files_only=True, trust_remote_code=False
        )
    encoder = PretrainedEncoder(
        load_network(found, network, dtype=number, attn_implementation="sdpa").to(place),
        images,
        tokenizer,
        source=found.source,
        digest=found.digest,
        batch_size=batch_size,
    )
    encoder.commit = found.commit
    _LOADED[key] = encoder
    return encoder


def to_bytes(samples: Any) -> NDArray[np.uint8]:
    """Images as a file would hold them.

    Args:
        samples: Images in ``[0, 1]``, grey or RGB, shape ``(N, C, H, W)``.

    Returns:
        The nearest of 256 steps, RGB, shape ``(N, H, W, 3)``.

    Raises:
        InputError: If these are no such images.
    """
    images = check_images(samples)
    if images.shape[1] not in (1, 3):
        raise InputError(
            "these images have no colours that a network for photographs reads",
            got=f"{images.shape[1]} channels",
            wanted="1 or 3",
        )
    pixels = np.rint(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
    if pixels.shape[1] == 1:
        pixels = np.repeat(pixels, 3, axis=1)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


_LOADED: WeakValueDictionary[tuple[Any, ...], PretrainedEncoder] = WeakValueDictionary()
