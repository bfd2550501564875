"""A run that needs no model: three features lost one after the other, on drawn digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from critwin.levels import grid, ou_time
from critwin.records import FeatureColumns, Records

DIGITS = {
    0: "111101101101111",
    1: "010110010010111",
    2: "111001111100111",
    3: "111001111001111",
    4: "101101111001001",
    5: "111100111001111",
    6: "111100111101111",
    7: "111001010010010",
    8: "111101111101111",
    9: "111101111001111",
}
LABELS: dict[str, tuple[str, ...]] = {
    "digit": tuple("0123456789"),
    "ground": ("dark", "light"),
    "ink": ("red", "green", "blue"),
}
MIDPOINTS = {"ground": 2.7, "ink": 1.9, "digit": 1.1}
SLOPES = {"ground": 0.22, "ink": 0.20, "digit": 0.16}
GROUNDS = {"dark": 0.25, "light": 0.55}
INKS = {"red": (0.9, 0.25, 0.2), "green": (0.3, 0.85, 0.3), "blue": (0.35, 0.5, 1.0)}


def fake_records(
    *,
    num_sources: int = 40,
    num_levels: int = 18,
    replicates: int = 2,
    seed: int = 0,
    t: tuple[float, float] = (0.15, 4.5),
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, tuple[str, ...]] = LABELS,
    is_abstaining: bool = True,
    condition: str = "",
    **attrs: Any,
) -> Records:
    """Records of features whose kept share is logistic in t with known midpoints."""
    rng = np.random.default_rng(seed)
    levels = grid(*t, num_levels)
    source, level, replicate = (
        part.reshape(-1)
        for part in np.meshgrid(
            np.arange(num_sources), np.arange(num_levels), np.arange(replicates), indexing="ij"
        )
    )
    features: dict[str, FeatureColumns] = {}
    for name in labels:
        num = len(labels[name])
        own = (np.arange(num_sources) + {"digit": 0, "ground": 1, "ink": 2}[name]) % num
        before = own[source]
        chance_of_keeping = 1 / (
            1 + np.exp((ou_time(levels)[level] - MIDPOINTS[name]) / SLOPES[name])
        )
        is_kept = rng.random(len(source)) < chance_of_keeping
        after = np.where(is_kept, before, rng.integers(0, num, len(source)))
        if is_abstaining and name == "digit":
            after = np.where(rng.random(len(source)) < 0.02, -1, after)
        columns = FeatureColumns(labels=labels[name], before=before, after=after)
        features[(names or {}).get(name, name)] = columns
    return Records(
        source=np.array([f"s{s:06d}" for s in source]),
        logsnr=levels[level],
        replicate=replicate,
        condition=np.full(len(source), condition),
        reversal=np.full(len(source), "stochastic"),
        valid=rng.random(len(source)) > 0.004,
        features=features,
        priors={
            name: dict.fromkeys(columns.labels, 1 / len(columns.labels))
            for name, columns in features.items()
        },
        attrs=attrs,
    )


def fake_images(
    records: Records, *, num_sources: int = 10, seed: int = 1
) -> dict[tuple[str, float | None], np.ndarray]:
    """Pictures of sources and results of replicate 0, drawn from their labels."""
    rng = np.random.default_rng(seed)
    digit, ground, ink = (records.features[name] for name in ("digit", "ground", "ink"))
    images: dict[tuple[str, float | None], np.ndarray] = {}
    chosen = set(np.unique(records.source)[:num_sources].tolist())
    for row in np.flatnonzero(np.asarray(records.replicate) == 0):
        name = str(records.source[row])
        if name not in chosen:
            continue
        sides = [("before", None), ("after", float(records.logsnr[row]))]
        for side, level in sides:
            if (name, level) in images:
                continue
            d, g, i = (int(getattr(f, side)[row]) for f in (digit, ground, ink))
            images[(name, level)] = draw(max(d, 0), ground.labels[g], ink.labels[i], rng)
    return images


def draw(digit: int, ground: str, ink: str, rng: np.random.Generator) -> np.ndarray:
    """A 28 x 28 colour image in [0, 1], (3, H, W)."""
    image = np.full((3, 28, 28), GROUNDS.get(ground, 0.4)) + rng.normal(0, 0.02, (3, 28, 28))
    bits = np.array([int(b) for b in DIGITS[digit]]).reshape(5, 3)
    mask = np.kron(bits, np.ones((4, 5)))
    top, left = 4 + rng.integers(-1, 2), 6 + rng.integers(-2, 3)
    for channel, value in enumerate(INKS.get(ink, (1, 1, 1))):
        area = image[channel, top : top + 20, left : left + 15]
        area[mask > 0] = value
    return np.clip(image, 0, 1)


PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "'-alert(4)-'",
    "</style><svg onload=alert(5)>",
    "{{ 7*7 }}{% for x in () %}",
    "</title><iframe src=javascript:alert(6)>",
    "<!--",
    "]]>",
    "&lt;b&gt; \u2028 \x07 =cmd|'/c calc'!A1",
)
HOSTILE_NAMES = {"ground": PAYLOADS[0], "ink": PAYLOADS[9], "digit": PAYLOADS[1]}


def hostile_records() -> Records:
    """Records whose every text is an attack on the page."""
    labels = {"ground": PAYLOADS[:2], "ink": PAYLOADS[2:5], "digit": PAYLOADS[5:9]}
    return fake_records(
        num_sources=24,
        num_levels=4,
        labels=labels,
        names=HOSTILE_NAMES,
        condition=PAYLOADS[2],
        is_abstaining=False,
        **{"model": PAYLOADS[6], "note": PAYLOADS[4]},
    )


def only(records: Records, *names: str) -> Records:
    """The records with some of their features."""
    return replace(records, features={name: records.features[name] for name in names})
