"""Image classifiers of transformers: planted logits, and a tiny ViT through the public path."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from critwin.errors import InputError
from critwin.features import ImageClassifierFeature, checked_read, error_matrix, load_feature
from tiny_clip import clip_folder, no_network, noise_images, pictures, vit_folder

CLASSES = ("tabby", "siamese", "beagle", "pug", "sofa")
ANIMALS = {"cat": ["tabby", "siamese"], "dog": ["beagle", 3]}
LAWS = np.array(
    [
        [0.50, 0.20, 0.20, 0.05, 0.05],  # cat .7, dog .25
        [0.30, 0.00001, 0.25, 0.24999, 0.20],  # the likeliest class is a cat, the sum says dog
        [0.10, 0.10, 0.20, 0.10, 0.50],  # sofa is likelier than either
    ]
)


class Planted(nn.Module):
    """Logits of an image by its first pixel."""

    def __init__(self, laws: Any = LAWS) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.log(torch.as_tensor(laws, dtype=torch.float64)))

    def forward(self, pixel_values: Tensor) -> Any:
        return SimpleNamespace(logits=self.logits[pixel_values[:, 0].long()])


class FirstPixel:
    backend = "pil"

    def __call__(self, images: Any, return_tensors: str) -> dict[str, Tensor]:
        assert return_tensors == "pt"
        return {"pixel_values": torch.tensor([[np.asarray(i)[0, 0, 0]] for i in images])}


def feature(labels: Any = ANIMALS, **options: Any) -> ImageClassifierFeature:
    network = options.pop("network", None) or Planted()
    return ImageClassifierFeature(
        network, FirstPixel(), options.pop("classes", CLASSES), labels, **options
    )


def test_classes_make_labels_and_the_rest_are_rivals() -> None:
    reading = checked_read(feature(batch_size=2), pictures(3))
    assert reading.indices.tolist() == [0, 1, -1]
    sums = np.stack([LAWS[:, :2].sum(axis=1), LAWS[:, 2:4].sum(axis=1)], axis=1)
    law = sums / sums.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reading.probs, law, atol=1e-12)
    np.testing.assert_allclose(reading.values["other"], LAWS[:, 4], atol=1e-12)
    np.testing.assert_allclose(reading.values["margin"], np.abs(law[:, 0] - law[:, 1]), atol=1e-9)


def test_margin_temperature_and_all_classes() -> None:
    assert feature(margin=0.3).read(pictures(3)).indices.tolist() == [0, -1, -1]
    every = feature(None)
    assert every.labels == CLASSES
    np.testing.assert_allclose(every.read(pictures(3)).probs, LAWS, atol=1e-12)
    assert every.read(pictures(3)).values["other"].tolist() == [0, 0, 0]
    root = np.sqrt(LAWS)
    np.testing.assert_allclose(
        feature(None, temperature=2.0).read(pictures(3)).probs,
        root / root.sum(axis=1, keepdims=True),
        atol=1e-12,
    )
    assert len(feature().read(pictures(0))) == 0


def test_its_error_matrix() -> None:
    matrix = error_matrix(feature(), pictures(3), ["cat", "cat", "dog"])
    np.testing.assert_array_equal(matrix.counts, [[1, 1], [0, 0]])
    assert matrix.abstained.tolist() == [0, 1]
    assert feature(errors=matrix).errors is matrix


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"cat": "tiger", "dog": "pug"}, {}, "'cat': the network has no such class: got tiger"),
        ({"cat": "taby", "dog": "pug"}, {}, "did you mean 'tabby'?"),
        ({"cat": 7, "dog": "pug"}, {}, "'cat': no such class: got 7; wanted 0 … 4"),
        ({"cat": True, "dog": "pug"}, {}, "'cat': the network has no such class"),
        ({"cat": [], "dog": "pug"}, {}, "label 'cat' has no classes"),
        ({"cat": ["tabby", 0], "dog": "pug"}, {}, "class 'tabby' is in a label twice"),
        ({"cat": "pug", "dog": "pug"}, {}, "class 'pug' is in a label twice"),
        (["tabby"], {}, "labels are no table"),
        ({}, {}, "labels are no table"),
        (None, {"classes": ("crane", "crane", "a", "b", "c")}, "are not distinct"),
        (
            {"bird": "crane", "x": "a"},
            {"classes": ("crane", "crane", "a", "b", "c")},
            "two classes have this name: got crane; wanted 0 or 1; give the number",
        ),
        (ANIMALS, {"margin": -1}, "margin is out of range"),
        (ANIMALS, {"temperature": 0}, "temperature is out of range"),
        (ANIMALS, {"batch_size": 0}, "batch_size must be positive"),
    ],
)
def test_what_cannot_be_used_is_one_line(labels: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        feature(labels, **options)
    assert "\n" not in str(caught.value)


def test_a_network_that_answers_nonsense() -> None:
    with pytest.raises(InputError, match=r"wrong thing: got shape \(16, 5\), not finite"):
        feature(network=Planted(np.full((3, 5), np.nan))).read(pictures(1))
    with pytest.raises(InputError, match=r"wrong thing: got shape \(16, 3\)"):
        feature(network=Planted(LAWS[:, :3])).read(pictures(1))


def test_a_saved_network_reads_as_transformers_does(tmp_path: Path) -> None:
    import transformers
    from PIL import Image

    folder = vit_folder(tmp_path / "vit")
    images = noise_images(5)
    with no_network():
        made = load_feature(
            "image-classifier",
            path=str(folder),
            labels={"cat": "tabby", "dog": ["beagle", "pug"]},
            local_files_only=True,
            called="animal",
        )
        reading = checked_read(made, images)
    network = transformers.ViTForImageClassification.from_pretrained(folder)
    processor = transformers.ViTImageProcessorPil.from_pretrained(folder)
    rows = np.rint(255 * images).astype(np.uint8).transpose(0, 2, 3, 1)
    values = processor(images=[Image.fromarray(row) for row in rows], return_tensors="pt")
    with torch.no_grad():
        law = network(**values).logits.double().softmax(dim=1).numpy()
    sums = np.stack([law[:, 0], law[:, 1] + law[:, 2]], axis=1)
    np.testing.assert_allclose(reading.probs, sums / sums.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(reading.indices == -1, law[:, 3] > sums.max(axis=1))
    assert made.name == "animal"
    prints = {
        load_feature("image-classifier", path=str(folder), **options).fingerprint
        for options in (
            {},
            {"labels": {"cat": "tabby", "dog": "pug"}},
            {"labels": {"dog": "pug", "cat": "tabby"}},
            {"margin": 0.1},
            {"temperature": 2.0},
            {"dtype": "bfloat16"},
            {"batch_size": 3},
        )
    }
    assert len(prints) == 7


def test_networks_of_other_kinds_are_refused(tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"has no preprocessor_config\.json that can be read"):
        load_feature("image-classifier", path=str(folder), local_files_only=True)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "os.system"}')
    with pytest.raises(InputError, match=r"has no PIL backend: got os\.system"):
        load_feature("image-classifier", path=str(folder), local_files_only=True)
    with pytest.raises(InputError, match="needs the option 'path'"):
        load_feature("image-classifier")
    vit_folder(folder)
    file = folder / "preprocessor_config.json"  # as networks of the first days have it
    text = file.read_text().replace("image_processor_type", "feature_extractor_type")
    file.write_text(re.sub("ViTImageProcessor[a-zA-Z]*", "ViTFeatureExtractor", text))
    load_feature("image-classifier", path=str(folder), local_files_only=True)
    clip = clip_folder(tmp_path / "clip")  # transformers gives CLIP a head it has no weights for
    with pytest.raises(InputError, match=r"do not fill the network|is no image classifier"):
        load_feature("image-classifier", path=str(clip), local_files_only=True)
