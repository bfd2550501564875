"""Sets that overlap or give themselves away are refused, and the images are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from critwin.audits.overlap import (
    check_alike,
    check_overlap,
    find_overlap,
    given_images,
    images_of_folder,
)
from critwin.errors import InputError

SHAPE = (3, 12, 12)


def picture(seed: int, size: int = 12) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((size // 4, size // 4, 1), dtype=np.uint8))


def folder(path: Path, seeds: range, *, suffix: str = "png", size: int = 12, **how: int) -> Path:
    path.mkdir()
    for seed in seeds:
        Image.fromarray(picture(seed, size)).save(path / f"{seed:03d}.{suffix}", **how)
    return path


def both(one: Path, two: Path) -> tuple:
    return tuple(
        images_of_folder(path, shape=SHAPE, what=what)
        for path, what in ((one, "members"), (two, "non-members"))
    )


def test_sets_that_are_alike_pass(tmp_path: Path) -> None:
    sides = both(folder(tmp_path / "a", range(10)), folder(tmp_path / "b", range(10, 20)))
    check_alike(*sides)
    overlap = find_overlap(*sides)
    check_overlap(overlap)
    assert overlap.exact == overlap.near == ()
    assert overlap.nearest > 0.3


def test_equal_and_nearly_equal_images_are_named(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", range(6))
    two = folder(tmp_path / "b", range(5, 12))
    brighter = np.clip(picture(2).astype(float) * 0.9 + 9, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(two / "copy.png")
    overlap = find_overlap(*both(one, two))
    assert overlap.exact == (("005.png", "005.png"),)
    assert [pair[:2] for pair in overlap.near] == [("002.png", "copy.png")]
    with pytest.raises(InputError, match=r"1 exact and 1 near.*005.png = 005.png, 002.png ~ copy"):
        check_overlap(overlap)


@pytest.mark.parametrize(
    ("how", "property_"),
    [
        ({"suffix": "jpg", "quality": 90}, "format"),
        ({"size": 24}, "size"),
    ],
)
def test_what_gives_the_sets_away_is_refused(
    tmp_path: Path, how: dict[str, int], property_: str
) -> None:
    sides = both(folder(tmp_path / "a", range(8)), folder(tmp_path / "b", range(8, 16), **how))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"differ in {property_}: that alone"):
        check_alike(*sides)


def test_other_jpeg_quality_is_seen(tmp_path: Path) -> None:
    sides = both(
        folder(tmp_path / "a", range(8), suffix="jpg", quality=90),
        folder(tmp_path / "b", range(8, 16), suffix="jpg", quality=60),
    )
    with pytest.raises(InputError, match="differ in format"):
        check_alike(*sides)


def test_shares_that_differ_beyond_chance_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", range(20))
    two = folder(tmp_path / "b", range(20, 40))
    for seed in range(40, 44):  # a few of another size on both sides are no give-away
        Image.fromarray(picture(seed, 24)).save(one / f"{seed}.png")
    for seed in range(44, 48):
        Image.fromarray(picture(seed, 24)).save(two / f"{seed}.png")
    check_alike(*both(one, two))
    for seed in range(48, 100):
        Image.fromarray(picture(seed, 24)).save(two / f"{seed}.png")
    with pytest.raises(InputError, match="differ in size"):
        check_alike(*both(one, two))


def test_ranges_and_rounding_of_arrays() -> None:
    generator = np.random.default_rng(0)
    unit = generator.integers(0, 256, (20, 3, 6, 6)).astype(np.float32) / 255
    one = given_images(unit[:10], what="member")
    with pytest.raises(InputError, match="differ in range"):
        check_alike(one, given_images(2 * unit[10:] - 1, what="nonmember"))
    with pytest.raises(InputError, match="differ in rounding"):
        check_alike(one, given_images(unit[10:] ** 1.1, what="nonmember"))
    with pytest.raises(InputError, match="differ in colour"):
        check_alike(one, given_images(unit[10:, :1].repeat(3, axis=1), what="nonmember"))
    with pytest.raises(InputError, match="differ in size"):
        check_alike(one, given_images(unit[10:, :, :4], what="nonmember"))
    check_alike(one, given_images(unit[10:], what="nonmember"))


def test_empty_sets(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="folder of members holds no images"):
        images_of_folder(tmp_path / "empty", shape=SHAPE, what="members")
    with pytest.raises(InputError, match="there are no members"):
        given_images(np.zeros((0, 3, 4, 4)), what="member")
    with pytest.raises(InputError, match="not finite"):
        given_images(np.full((2, 3), np.nan), what="member")
    with pytest.raises(InputError, match="does not make images"):
        images_of_folder(tmp_path, shape=(2,), what="members")
