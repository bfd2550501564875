"""Data sets from files: what comes out is what went in; what cannot be read says why."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from critwin.errors import InputError
from critwin.theory.dataset_files import read_dataset
from dataset_cases import cloud

POINTS, LABELS = cloud(20, 3)
NAMES = np.array(["red", "green", "blue"])[LABELS]
PIXELS = (np.arange(20 * 4 * 5) % 256).astype(np.uint8).reshape(20, 4, 5)


@pytest.mark.parametrize("name", ["x", "images", "points", "embeddings", "anything"])
def test_npz(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {name: POINTS, "digit": LABELS, "ink": NAMES, "id": np.arange(20)}
    np.savez(tmp_path / "a.npz", **arrays, size=np.ones(3), weight=np.arange(1.0, 21))
    found = read_dataset(tmp_path / "a.npz", weights="weight")
    np.testing.assert_array_equal(found.points, POINTS)
    assert set(found.labels) == {"digit", "ink"}
    np.testing.assert_array_equal(found.labels["ink"], NAMES)
    np.testing.assert_array_equal(found.weights, np.arange(1.0, 21))
    assert "not used: size" in found.notes
    assert "not taken for labels: id" in found.notes
    only = read_dataset(tmp_path / "a.npz", labels=["ink"])
    assert set(only.labels) == {"ink"}


def test_bytes_are_scaled_and_it_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=PIXELS, y=LABELS)
    found = read_dataset(tmp_path / "a.npz")
    np.testing.assert_allclose(found.points, PIXELS / 127.5 - 1, atol=1e-6)
    assert found.points.dtype == np.float32
    assert "scaled from 0 … 255 to -1 … 1" in found.notes[0]


@pytest.mark.parametrize("has_metadata", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_image_folders(tmp_path: Path, has_metadata: bool, mode: str) -> None:
    rows = ["file_name,ink,side"]
    for k, (pixels, name) in enumerate(zip(PIXELS, NAMES, strict=True)):
        place = tmp_path if has_metadata else tmp_path / name
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(place / f"{k:02}.png")
        rows.append(f"{k:02}.png,{name},{'left' if k % 2 else 'right'}")
    if has_metadata:
        (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    found = read_dataset(tmp_path)
    assert found.points.shape == (20, 4, 5, 1 if mode == "L" else 3)
    assert set(found.labels) == ({"ink", "side"} if has_metadata else {"class"})
    order = range(20) if has_metadata else np.argsort(NAMES, kind="stable")
    for row, k in enumerate(order):
        expected = PIXELS[k] / 127.5 - 1
        np.testing.assert_allclose(found.points[row, ..., 0], expected, atol=1e-6)
        assert found.labels["ink" if has_metadata else "class"][row] == NAMES[k]
    small = read_dataset(tmp_path, size=2)
    assert small.points.shape[1:3] == (2, 2)
    assert any("resized to 2 x 2" in note for note in small.notes)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
def test_tables_of_embeddings(tmp_path: Path, ending: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(POINTS, columns=["e0", "e1", "e2"]).assign(digit=LABELS, ink=NAMES)
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    found = read_dataset(path)
    np.testing.assert_allclose(found.points, POINTS, rtol=1e-12)
    assert set(found.labels) == {"digit", "ink"}
    assert list(found.labels["ink"]) == list(NAMES)
    assert any("3 columns of numbers, e0 … e2" in note for note in found.notes)
    named = read_dataset(path, labels=["ink"])  # then the whole numbers are a coordinate
    assert named.points.shape == (20, 4)


@pytest.mark.parametrize("is_fixed", [True, False])
def test_parquet_with_a_column_of_lists(tmp_path: Path, is_fixed: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), 3) if is_fixed else pa.list_(pa.float32())
    vectors = POINTS.astype(np.float32)
    columns = {"embedding": pa.array(vectors.tolist(), type=kind), "ink": pa.array(NAMES.tolist())}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = read_dataset(tmp_path / "a.parquet")
    np.testing.assert_array_equal(found.points, vectors)
    assert set(found.labels) == {"ink"}
    two = pa.table({**columns, "other": columns["embedding"]})
    pq.write_table(two, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="which column holds the points"):
        read_dataset(tmp_path / "b.parquet")
    chosen = read_dataset(tmp_path / "b.parquet", points="other")
    np.testing.assert_array_equal(chosen.points, vectors)
    ragged = [[1.0, 2.0]] * 19 + [[1.0]]
    pq.write_table(pa.table({"e": pa.array(ragged), "i": NAMES}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="not equally long"):
        read_dataset(tmp_path / "c.parquet")


def npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda place: np.savez(place / "a.npz", **arrays)


def zipped(name: str, content: bytes) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        with zipfile.ZipFile(place / "a.npz", "w") as archive:
            archive.writestr(name, content)

    return make


def image_of(size: tuple[int, int], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)


def folder(*sizes: tuple[int, int], text: str = "") -> Callable[[Path], None]:
    def make(place: Path) -> None:
        for k, size in enumerate(sizes):
            image_of(size, place / "d" / "ab"[k % 2] / f"{k}.png")
        (place / "d").mkdir(exist_ok=True)
        if text:
            (place / "d" / "metadata.csv").write_text(text, encoding="utf-8")

    return make


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content

    def make(place: Path) -> None:
        (place / name).write_bytes(data)

    return make


@pytest.mark.parametrize(
    ("make", "name", "options", "message"),
    [
        (None, "none.npz", {}, "no such file: got "),
        (text("a.bin", b"x"), "a.bin", {}, "unknown kind of data set: got a.bin"),
        (
            text("a.npz", b"no"),
            "a.npz",
            {},
            "a.npz cannot be read: got File is not a zip file; wanted arrays as numpy.savez",
        ),
        (npz(y=LABELS), "a.npz", {}, "which array holds the points?"),
        (npz(a=POINTS, b=POINTS, y=LABELS), "a.npz", {}, "which array holds the points?"),
        (npz(x=POINTS, y=LABELS), "a.npz", {"points": "q"}, "no such array: got q"),
        (npz(x=POINTS, y=LABELS), "a.npz", {"labels": ["z"]}, "no such column: got z"),
        (npz(x=POINTS, y=LABELS), "a.npz", {"weights": "z"}, "no such column: got z"),
        (npz(x=POINTS, y=NAMES), "a.npz", {"weights": "y"}, "weights are not numbers"),
        (npz(x=POINTS), "a.npz", {}, "no labels beside the points: got x alone; wanted an arr"),
        (
            npz(x=POINTS[:0], y=LABELS[:0]),
            "a.npz",
            {},
            "a.npz holds no points: got x of shape (0",
        ),
        (
            npz(x=POINTS, y=LABELS[:15]),
            "a.npz",
            {},
            "'y' are no labels: got 15 entries; want",
        ),
        (
            npz(x=POINTS, y=LABELS[:15]),
            "a.npz",
            {"labels": ["y"]},
            "'y' cannot be used: got 15 entries; wanted 20, one for each row of x",
        ),
        (npz(x=POINTS, w=np.ones(3)), "a.npz", {"weights": "w"}, "'w' cannot be used: got 3 entr"),
        (npz(x=POINTS, y=np.zeros(20, int)), "a.npz", {}, "'y' are no labels: got 0 in every ro"),
        (
            npz(x=POINTS, y=np.array([""] * 20)),
            "a.npz",
            {},
            "no labels: got nothing in every row;",
        ),
        (npz(x=POINTS, y=LABELS), "a.npz", {"labels": [""]}, "no such column: got an empty name;"),
        (
            npz(x=POINTS, y=LABELS),
            "a.npz",
            {"points": "X"},
            "got X; wanted one of x, y; did you mean",
        ),
        (npz(x=POINTS, y=np.arange(20)), "a.npz", {}, "got 20 different labels of 20 points; wan"),
        (
            npz(x=POINTS, y=POINTS[:, 0]),
            "a.npz",
            {},
            "in row 0; wanted text or whole numbers that",
        ),
        (
            npz(x=POINTS, y=np.where(LABELS == 1, np.nan, 0.0)),
            "a.npz",
            {},
            f"'y' are no labels: got nan in row {int(np.argmax(LABELS == 1))}; wanted text or who",
        ),
        (
            npz(x=POINTS, y=LABELS[:15], z=np.zeros(20, int)),
            "a.npz",
            {},
            "no column of labels: got 'z' (0 in every row), 'y' (15 entries); wanted text or",
        ),
        (npz(x=LABELS, y=NAMES), "a.npz", {}, "got x (20,), y (20,); wanted one of two or more"),
        (npz(x=POINTS, y=LABELS, q=np.float64(3)), "a.npz", {"points": "q"}, "not a table of num"),
        (zipped("notes.txt", b"hello"), "a.npz", {}, "a.npz holds no arrays: got notes.txt"),
        (zipped("x.npy", b"\x93NUMPY"), "a.npz", {}, "a.npz cannot be read"),
        (npz(x=POINTS, y=LABELS), "a.npz", {"size": 8}, "a size is for images of a folder"),
        (npz(x=POINTS, y=LABELS.astype(object)), "a.npz", {}, "without pickle"),
        (folder(), "d", {}, "no labelled images in the folder"),
        (folder((2, 2), (3, 2)), "d", {}, "images differ in size: 1.png: got 3 x 2; wanted 2 x 2"),
        (folder((2, 2)), "d", {"points": "x"}, "the points of a folder are its images"),
        (folder(text="a,b\n1,2"), "d", {}, "metadata.csv names no images"),
        (folder(text="file_name,b\n../a.npz,2"), "d", {}, "row 1: no such image"),
        (folder(text="file_name,b\nx.png"), "d", {}, "row 1: wrong number of cells"),
        (text("a.csv", "a,b\n"), "a.csv", {}, "the table has no rows"),
        (text("a.csv", ""), "a.csv", {}, "cannot be read as a table"),
        (text("a.csv", "a,b\n1,x\n2,y"), "a.csv", {}, "no columns of numbers for the points"),
        (text("a.csv", "a,b\n1.5,x\n"), "a.csv", {"points": "a"}, "no such column of lists"),
        (text("a.parquet", b"no"), "a.parquet", {}, "cannot be read as Parquet"),
    ],
)
def test_every_mistake_is_one_line(
    tmp_path: Path,
    make: Callable[[Path], None] | None,
    name: str,
    options: dict[str, Any],
    message: str,
) -> None:
    if make is not None:
        make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path / name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    image_of((2, 2), tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"1\.png cannot be read as an image"):
        read_dataset(tmp_path)
