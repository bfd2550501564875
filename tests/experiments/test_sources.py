from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from critwin.errors import InputError
from critwin.experiments.sources import (
    clean_samples,
    plan_dataset,
    plan_generated,
    plan_given,
    plan_images,
)
from critwin.models.mixture import MixtureModel
from critwin.theory.mixtures import GaussianMixture
from toy_models import ToyImages, ToyPoints


def test_more_sources_keep_the_earlier_ones() -> None:
    assert plan_generated(9)[:4] == plan_generated(4)
    assert plan_dataset(9, 40, seed=1)[:4] == plan_dataset(4, 40, seed=1)
    items = [source.item for source in plan_dataset(40, 40, seed=1)]
    assert sorted(items) == list(range(40))
    assert items != [source.item for source in plan_dataset(40, 40, seed=2)]


def test_conditions_are_dealt_in_turn() -> None:
    deal = [source.condition for source in plan_generated(5, ["a", None])]
    assert deal == ["a", None, "a", None, "a"]


@pytest.mark.parametrize("count", [0, -3])
def test_no_sources_is_an_error(count: int) -> None:
    for make in (plan_generated, plan_given, lambda n: plan_dataset(n, 4, 0)):
        with pytest.raises(InputError, match="no sources"):
            make(count)


def test_a_data_set_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match=r"got 41; wanted at most 40"):
        plan_dataset(41, 40, seed=0)


def test_generated_sources_do_not_depend_on_their_neighbours() -> None:
    model = ToyPoints()
    sources = plan_generated(6)
    whole, _ = clean_samples(model, sources, seed=3, batch_size=8)
    part, _ = clean_samples(model, sources[4:5], seed=3, batch_size=8)
    assert torch.equal(whole[4], part[0])
    assert model.shapes == {(8, 3)}
    other, _ = clean_samples(model, sources, seed=4, batch_size=8)
    assert not torch.equal(whole, other)


def test_data_set_sources_carry_what_is_planted() -> None:
    model = ToyPoints()
    sources = plan_dataset(12, 40, seed=0)
    clean, planted = clean_samples(model, sources, seed=0, batch_size=16)
    for source, row, truth in zip(sources, clean, planted, strict=True):
        assert truth == {"truth": "left" if source.item % 2 == 0 else "right"}
        assert (row[0] < 0) == (source.item % 2 == 0)


def _write(path: Path, level: int, size: tuple[int, int] = (4, 4)) -> None:
    Image.fromarray(np.full((size[1], size[0], 3), level, dtype=np.uint8)).save(path)


def test_images_of_a_folder(tmp_path: Path) -> None:
    for index in range(5):
        _write(tmp_path / f"{index}.png", 40 * index)
    (tmp_path / "notes.txt").write_text("not an image")
    sources = plan_images(5, tmp_path, seed=0)
    assert sorted(source.name for source in sources) == [f"f:{i}.png" for i in range(5)]
    clean, _ = clean_samples(ToyImages(), sources, seed=0, batch_size=8)
    want = [(40 * int(s.name[2]) / 255 - 0.5) / 0.05 for s in sources]
    np.testing.assert_allclose(clean[:, 0], want, atol=1e-5)
    _write(tmp_path / "new.png", 7)
    kept = [s.name for s in plan_images(6, tmp_path, seed=0) if s.name != "f:new.png"]
    assert kept == [source.name for source in sources]  # a new file moves no other one


def test_images_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the folder"):
        plan_images(1, tmp_path / "missing", seed=0)
    with pytest.raises(InputError, match="at most 0"):
        plan_images(1, tmp_path, seed=0)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    sources = plan_images(1, tmp_path, seed=0)
    with pytest.raises(InputError, match=r"cannot read image 'bad\.png'"):
        clean_samples(ToyImages(), sources, seed=0, batch_size=2)
    _write(tmp_path / "bad.png", 9, size=(5, 4))
    sources = plan_images(1, tmp_path, seed=0, fit="exact")
    with pytest.raises(InputError, match=r"got 5 x 4 pixels; wanted 4 x 4"):
        clean_samples(ToyImages(), sources, seed=0, batch_size=2)
    with pytest.raises(InputError, match="cannot take images"):
        clean_samples(ToyPoints(), sources, seed=0, batch_size=2)


def test_captions_are_the_conditions_of_images(tmp_path: Path) -> None:
    for name, level in (("a", 10), ("b", 250), ("c", 128)):
        _write(tmp_path / f"{name}.png", level, size=(9, 6))
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,member\na.png,left,yes\nb.png,right,no\nc.png,,no\n"
    )
    sources = plan_images(3, tmp_path, seed=0)
    assert {s.name: s.condition for s in sources} == {
        "f:a.png": "left",
        "f:b.png": "right",
        "f:c.png": None,
    }
    clean, planted = clean_samples(ToyImages(), sources, seed=0, batch_size=4)
    for source, row, truth in zip(sources, clean, planted, strict=True):
        level = {"a": 10, "b": 250, "c": 128}[source.name[2]]
        assert row[0].item() == pytest.approx((level / 255 - 0.5) / 0.05, abs=1e-4)
        assert truth == {"member": "yes" if source.name == "f:a.png" else "no"}


def test_strata_are_dealt_in_turn_and_prefixes_stay() -> None:
    strata = np.array(["a"] * 30 + ["b"] * 8 + ["c"] * 2)
    few = plan_dataset(6, 40, seed=3, strata=strata)
    assert sorted(strata[source.item] for source in few) == ["a", "a", "b", "b", "c", "c"]
    every = plan_dataset(40, 40, seed=3, strata=strata)
    assert every[:6] == few
    assert sorted(source.item for source in every) == list(range(40))


def test_generated_sources_carry_the_component_that_a_mixture_drew() -> None:
    mixture = GaussianMixture(means=[-50.0, 50.0], names=["left", "right"])
    sources = plan_generated(16)
    clean, planted = clean_samples(MixtureModel(mixture), sources, seed=0, batch_size=16)
    said = [truth["component"] for truth in planted]
    assert said == ["left" if x < 0 else "right" for x in clean[:, 0].tolist()]
    assert set(said) == {"left", "right"}
