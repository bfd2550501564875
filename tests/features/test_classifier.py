from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from critwin.errors import InputError
from critwin.features import ClassifierFeature, checked_read, load_classifier, load_feature
from critwin.features.classifier import SmallConvNet
from critwin.features.labelling import ErrorMatrix, error_matrix
from critwin.models.digits.data import load_data

NON_MEMBERS = np.flatnonzero(~load_data().is_member)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return (load_data().render(NON_MEMBERS) + 1) / 2


class Corner(nn.Module):
    """Logits are the first pixels of the first channel."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size
        self.scale = nn.Parameter(torch.ones(()))
        self.drop = nn.Dropout(0.5)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return self.drop(self.scale * x[:, 0, 0, : self.size])


def write(path: Path, net: nn.Module | None = None, **changes: str | None) -> Path:
    net = net or SmallConvNet(2, channels=(2, 2, 2), pool=1)
    meta: dict[str, str | None] = {
        "class": "SmallConvNet",
        "labels": '["no", "yes"]',
        "architecture": json.dumps(net.architecture),
        **changes,
    }
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_file(state, path, metadata={k: v for k, v in meta.items() if v is not None})
    return path


def test_the_shipped_labeller_reads_digits_it_never_saw(images: NDArray[np.float32]) -> None:
    feature = load_feature("digit")
    matrix = error_matrix(feature, images, load_data().digit[NON_MEMBERS].astype(np.int64))
    assert matrix.num_samples == 1000
    assert matrix.accuracy >= 0.98
    assert matrix.condition < 1.1
    shipped = json.loads(
        (
            Path(__file__).parents[2] / "src/critwin/models/digits/weights/labeller_errors.json"
        ).read_text()
    )
    assert np.abs(matrix.counts - np.array(shipped["counts_true_by_said"])).sum() <= 4


def test_rows_do_not_see_each_other(images: NDArray[np.float32]) -> None:
    feature = load_feature("digit")
    whole = feature.read(images[:70])
    for rows in ([3], [69, 3], list(range(69, -1, -1))):
        some = feature.read(torch.from_numpy(images[rows]))
        np.testing.assert_array_equal(some.probs, np.asarray(whole.probs)[rows])
        np.testing.assert_array_equal(some.values["margin"], whole.values["margin"][rows])


def test_every_call_has_the_same_shape_in_evaluation_mode() -> None:
    net = Corner().train()
    feature = ClassifierFeature(net, ("a", "b"), name="c", batch_size=4)
    x = np.random.Generator(np.random.Philox(0)).uniform(size=(6, 1, 3, 3))
    reading = feature.read(x)
    assert net.shapes == [(4, 1, 3, 3)] * 2
    assert net.training
    assert net.drop.training
    np.testing.assert_array_equal(reading.indices, x[:, 0, 0, :2].argmax(axis=1))
    gap = np.abs(x[:, 0, 0, 0] - x[:, 0, 0, 1])
    np.testing.assert_allclose(reading.values["margin"], np.tanh(gap / 2), atol=1e-6)
    assert len(feature.read(x[:0])) == 0


def test_it_abstains_below_a_margin() -> None:
    x = np.zeros((2, 1, 2, 2))
    x[0, 0, 0, 1] = 0.1
    x[1, 0, 0, 1] = 1.0
    feature = ClassifierFeature(Corner(), ("a", "b"), name="c", abstain_below=0.2)
    assert feature.read(x).indices.tolist() == [-1, 1]


def test_a_file_brings_its_labels(tmp_path: Path) -> None:
    net = SmallConvNet(2, channels=(2, 2, 2), pool=1)
    feature = load_classifier(write(tmp_path / "smile.safetensors", net))
    assert (feature.name, feature.labels) == ("smile", ("no", "yes"))
    x = np.random.Generator(np.random.Philox(0)).uniform(size=(3, 3, 28, 28))
    own = ClassifierFeature(net, ("no", "yes"), name="smile")
    np.testing.assert_array_equal(feature.read(x).probs, own.read(x).probs)
    assert feature.fingerprint == own.fingerprint
    renamed = load_classifier(tmp_path / "smile.safetensors", labels=["n", "y"], name="s")
    assert (renamed.name, renamed.labels) == ("s", ("n", "y"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": None}, "does not name a known architecture: wanted"),
        ({"class": "os.system"}, "known architecture: got os.system; .*SmallConvNet"),
        ({"labels": None}, "does not describe its own weights: got KeyError"),
        ({"labels": "[no"}, "does not describe its own weights: got JSONDecodeError"),
        ({"architecture": '{"depth": 3}'}, "does not describe its own weights: got TypeError"),
        ({"architecture": '{"num_labels": 3}'}, "does not describe its own weights"),
    ],
)
def test_a_file_that_does_not_describe_itself_is_refused(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(write(tmp_path / "w.safetensors", **changes))
    assert "\n" not in str(caught.value)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such classifier file"):
        load_classifier(tmp_path / "missing.safetensors")
    pickle = tmp_path / "w.pt"
    pickle.write_bytes(b"\x80\x04\x95not safetensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_classifier(pickle)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = SmallConvNet(2, channels=(2, 2, 2), pool=1)
    with torch.no_grad():
        net.head.bias[0] = float("nan")
    with pytest.raises(InputError, match=r"not finite: got head\.bias"):
        load_classifier(write(tmp_path / "w.safetensors", net))


class Broken(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x[:, 0, 0, :2] * float("nan"), "returned NaN or infinite logits"),
        (
            lambda x: x[:, 0, 0, :1],
            r"wrong thing: got \(64, 1\); wanted logits of shape \(64, 2\)",
        ),
        (lambda x: "cat", "wrong thing: got str"),
        (lambda x: nn.functional.linear(x, torch.ones(2, 9)), "cannot read these images"),
    ],
)
def test_a_network_that_answers_nonsense_gets_one_clear_line(answer: Any, message: str) -> None:
    feature = ClassifierFeature(Broken(answer), ("a", "b"), name="c")
    with pytest.raises(InputError, match=message) as caught:
        checked_read(feature, np.zeros((1, 1, 2, 2)))
    assert "\n" not in str(caught.value)


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="abstain_below"):
        ClassifierFeature(Corner(), ("a", "b"), name="c", abstain_below=-0.1)
    with pytest.raises(InputError, match="batch_size"):
        ClassifierFeature(Corner(), ("a", "b"), name="c", batch_size=0)
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        ClassifierFeature(Corner(), ("a", "b"), name="c").read(np.full((1, 1, 2, 2), 255.0))


def test_the_fingerprint_changes_with_everything() -> None:
    changed = Corner()
    with torch.no_grad():
        changed.scale += 1e-7
    prints = [
        ClassifierFeature(Corner(), ("a", "b"), name="c"),
        ClassifierFeature(changed, ("a", "b"), name="c"),
        ClassifierFeature(Corner(), ("b", "a"), name="c"),
        ClassifierFeature(Corner(), ("a", "b"), name="d"),
        ClassifierFeature(Corner(), ("a", "b"), name="c", abstain_below=0.1),
        ClassifierFeature(Corner(), ("a", "b"), name="c", batch_size=8),
        ClassifierFeature(nn.Sequential(Corner(), nn.ReLU()), ("a", "b"), name="c"),
    ]
    assert len({feature.fingerprint for feature in prints}) == len(prints)


def test_it_tells_how_often_it_errs(tmp_path: Path) -> None:
    matrix = ErrorMatrix(
        feature="c", labels=("a", "b"), counts=np.array([[9, 1], [2, 8]]), abstained=np.zeros(2)
    )
    plain = ClassifierFeature(Corner(), ("a", "b"), name="c")
    feature = ClassifierFeature(Corner(), ("a", "b"), name="c", errors=matrix)
    assert plain.errors is None
    assert feature.errors is matrix
    assert feature.fingerprint == plain.fingerprint  # the same readings
    with pytest.raises(InputError, match="not that of feature 'c': got a, b; wanted a, z"):
        ClassifierFeature(Corner(), ("a", "z"), name="c", errors=matrix)
    weights = write(tmp_path / "w.safetensors")
    file = tmp_path / "errors.json"
    file.write_text(json.dumps(ErrorMatrix(**{**vars(matrix), "labels": ("no", "yes")}).as_dict()))
    loaded = load_feature("classifier", file=str(weights), errors=str(file))
    np.testing.assert_array_equal(loaded.errors.counts, matrix.counts)
    file.write_text("[]")
    with pytest.raises(InputError, match="not a stored error matrix"):
        load_feature("classifier", file=str(weights), errors=str(file))
    with pytest.raises(InputError, match="cannot read the error matrix"):
        load_feature("classifier", file=str(weights), errors=str(tmp_path / "none.json"))


def test_the_digit_labeller_tells_its_errors_unless_it_abstains() -> None:
    assert load_feature("digit").errors.num_samples == 1000
    assert load_feature("digit", abstain_below=0.1).errors is None
