"""Images of others: every kind is converted as documented, or refused in one line."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from critwin._images import image_files, read_image
from critwin.errors import InputError

RED = (200, 40, 20)
GRID = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def solid(mode: str, colour: object, size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def test_bytes_become_numbers(tmp_path: Path) -> None:
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    array = read_image(tmp_path / "a.png")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, (pixels.transpose(2, 0, 1) / np.float32(255)))


def test_sixteen_bits_are_not_clipped(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [4096, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    for channels in (1, 3):
        array = read_image(tmp_path / "a.png", channels=channels)
        assert array.shape == (channels, 2, 2)
        np.testing.assert_allclose(array[-1], grey / 65535, atol=1e-7)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    image = solid("RGBA", (*RED, 255), (2, 1))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        np.rint(255 * read_image(tmp_path / "a.png"))[:, 0].T, [RED, (255, 255, 255)]
    )
    image = solid("P", 0, (2, 1))
    image.putpalette([*RED, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "b.png", transparency=1)
    np.testing.assert_array_equal(
        np.rint(255 * read_image(tmp_path / "b.png"))[:, 0].T, [RED, (255, 255, 255)]
    )
    half = solid("LA", (0, 128), (1, 1))
    half.save(tmp_path / "c.png")
    assert read_image(tmp_path / "c.png", channels=1).item() == pytest.approx(127 / 255)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    solid("CMYK", (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red = read_image(tmp_path / "a.jpg").mean(axis=(1, 2))
    np.testing.assert_allclose(red, [1, 0, 0], atol=0.02)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(tmp_path: Path, orientation: int) -> None:
    """The eight orientations of EXIF 2.3, table 6, written out as array operations."""
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a[::-1].T,
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: a[:, ::-1].T,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GRID).save(tmp_path / "a.png", exif=exif)
    seen = np.rint(255 * read_image(tmp_path / "a.png", channels=1)[0])
    np.testing.assert_array_equal(seen, undo[orientation](GRID))


def test_cropping_keeps_proportions_and_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16, 0] = 255  # the middle third is red, the sides are green
    wide[:, :8, 1] = wide[:, 16:, 1] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    middle = read_image(tmp_path / "a.png", size=(8, 8))
    np.testing.assert_array_equal(middle.mean(axis=(1, 2)), [1, 0, 0])
    whole = read_image(tmp_path / "a.png", size=(8, 8), fit="stretch")
    np.testing.assert_allclose(whole.mean(axis=(1, 2)), [1 / 3, 2 / 3, 0], atol=0.02)
    with pytest.raises(InputError, match=r"got 24 x 8 pixels; wanted 8 x 8"):
        read_image(tmp_path / "a.png", size=(8, 8), fit="exact")
    with pytest.raises(InputError, match="unknown way to fit an image: got tile"):
        read_image(tmp_path / "a.png", size=(8, 8), fit="tile")


def test_resizing_stays_in_range_and_keeps_the_mean(tmp_path: Path) -> None:
    step = np.zeros((9, 9), dtype=np.uint16)
    step[:, 4:] = 65535
    for array in (step, (step // 257).astype(np.uint8)):
        Image.fromarray(array).save(tmp_path / "a.png")
        out = read_image(tmp_path / "a.png", size=(27, 27))
        assert out.min() >= 0
        assert out.max() <= 1
        assert out.mean() == pytest.approx(5 / 9, abs=0.02)


def animated(path: Path) -> None:
    frames = [solid("RGB", (level, 0, 0)) for level in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def truncated(path: Path) -> None:
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:4000])


def write_png(path: Path, width: int, height: int, bits: int, kind: int, data: bytes) -> None:
    """A PNG chunk by chunk: also what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = zlib.compress(data)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def bomb(path: Path) -> None:
    """A small file whose header claims 60,000 x 60,000 pixels."""
    write_png(path, 60000, 60000, 8, 0, bytes(1000))


def test_sixteen_bit_colours_keep_their_upper_bits(tmp_path: Path) -> None:
    row = struct.pack(">BHHH", 0, 65535, 4096, 0)
    write_png(tmp_path / "a.png", 1, 1, 16, 2, row)
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[:, 0, 0], [1, 16 / 255, 0])


def test_the_first_picture_of_a_camera_s_file_is_taken(tmp_path: Path) -> None:
    first, second = solid("RGB", (200, 200, 200)), solid("RGB", (9, 9, 9))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert read_image(tmp_path / "a.jpg").mean() == pytest.approx(200 / 255, abs=0.01)


def over_the_limit(path: Path) -> None:
    Image.new("1", (9460, 9460)).save(path)  # a warning of Pillow's, no error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (animated, "'a.png' is animated: got 2 frames"),
        (truncated, r"cannot read image 'a.png': got \S*a.png .*truncated"),
        (bomb, "'a.png' is too large: wanted at most 89478485 pixels"),
        (over_the_limit, "'a.png' is too large"),
        (lambda p: p.write_bytes(b""), "cannot read image 'a.png'"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n broken"), "cannot read image 'a.png'"),
        (lambda p: p.mkdir(), r"got \S*a.png .Is a directory.; wanted a PNG"),
        (lambda p: None, r"got \S*a.png .No such file or directory.; wan"),
        (
            lambda p: Image.fromarray(np.ones((2, 2), np.float32)).save(p, format="TIFF"),
            "numbers of an unknown range: got mode F",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(InputError, match=message) as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        solid("RGB", RED).save(root / name)
    return root


def test_captions_and_facts_of_a_table(tmp_path: Path) -> None:
    folder_of(tmp_path, "b.png", "a.jpg", "deep/c.png", "deep/unnamed.png")
    (tmp_path / "metadata.csv").write_text(
        'file_name,text,member\nb.png,"a cat, asleep",yes\n./a.jpg, ,no\ndeep/c.png,ü,\n',
        encoding="utf-8-sig",
    )
    entries = image_files(tmp_path)
    assert [(e.name, e.caption, e.facts) for e in entries] == [
        ("a.jpg", None, (("member", "no"),)),
        ("b.png", "a cat, asleep", (("member", "yes"),)),
        ("deep/c.png", "ü", ()),
    ]
    assert all(e.path.is_file() for e in entries)
    (tmp_path / "metadata.csv").unlink()
    assert [(e.name, e.caption) for e in image_files(tmp_path)] == [
        ("a.jpg", None),
        ("b.png", None),
    ]
    rows = [
        {"file_name": "a.jpg", "caption": "line\u2028separator".replace("\u2028", " "), "age": 3},
        {"file_name": "b.png", "caption": None, "age": True},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert [(e.caption, e.facts) for e in image_files(tmp_path)] == [
        ("line separator", (("age", "3"),)),
        (None, (("age", "true"),)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "", "names no images"),
        ("metadata.csv", "file_name,text\n", "names no images"),
        ("metadata.csv", "file,text\na.png,x\n", "row 1: not a row of metadata"),
        ("metadata.csv", "file_name,text\na.png,x,y\n", "row 1: not a row of metadata"),
        ("metadata.csv", "file_name,text\na.png\n", "row 1: not a row of metadata"),
        ("metadata.csv", "file_name,text\nz.png,x\n", "row 1: no such image .*got z.png"),
        ("metadata.csv", "file_name,text\n../out.png,x\n", "no such image in the folder"),
        ("metadata.csv", "file_name,text\n/etc/passwd,x\n", "no such image in the folder"),
        ("metadata.csv", "file_name,text\nmetadata.csv,x\n", "no such image in the folder"),
        ("metadata.csv", "file_name,text\nlink.png,x\n", "no such image in the folder"),
        ("metadata.csv", "file_name,text\na.png,x\na.png,y\n", "names an image twice: got a.png"),
        ("metadata.csv", "file_name,text\na.png,x\n", "an image has no row .*got b.png"),
        ("metadata.csv", "file_name,text,caption\na.png,x,y\n", "both text and caption"),
        ("metadata.csv", "file_name,text\na.png,\x1b[31m\n", "row 1, text: cannot be used"),
        ("metadata.csv", "file_name,text\na.png," + "x" * 3000 + "\n", "text: cannot be used"),
        ("metadata.csv", 'file_name,text\n"a.png,x\n', "metadata.csv cannot be read: got Error"),
        ("metadata.jsonl", "{", "metadata.jsonl cannot be read: got JSONDecodeError"),
        ("metadata.jsonl", "[" * 100_000, "metadata.jsonl cannot be read: got RecursionError"),
        ("metadata.jsonl", "[1]", "row 1: not a row"),
        ("metadata.jsonl", '{"file_name": 3}', "row 1: not a row"),
        ("metadata.jsonl", '{"file_name": "a\\u0000.png"}', "no such image in the folder"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": ["x"]}', "text: cannot be used"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "\\ud800"}', "text: cannot be used"),
        ("metadata.jsonl", '{"file_name": "a.png", "n": Infinity}', "n: cannot be used"),
    ],
)
def test_metadata_that_cannot_be_used_are_one_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    folder = folder_of(tmp_path / "in", "a.png", "b.png")
    folder_of(tmp_path, "out.png")
    if "link.png" in text:
        (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        image_files(folder)
    assert "\n" not in str(caught.value)


def test_two_tables_and_no_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.png")
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="two tables of metadata"):
        image_files(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"cannot read metadata\.csv"):
        image_files(tmp_path)
    with pytest.raises(InputError, match="cannot read the folder of images"):
        image_files(tmp_path / "none")
