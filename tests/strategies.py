"""Random transition tables and records for property tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from critwin.records import FeatureColumns, Records
from critwin.transitions import Transitions, from_counts

NASTY = "aé😀\"'\\/.*%,;=<>&\n\t {}[]0-"
names = st.text(alphabet=NASTY, min_size=1, max_size=4)
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
levels = st.lists(
    st.floats(-30, 30).map(lambda x: x + 0.0), min_size=1, max_size=4, unique=True
).map(lambda x: sorted(x, reverse=True))
plain_attrs = st.dictionaries(
    names,
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, st.text(NASTY, max_size=4)
    ),
    max_size=3,
)


def generator(draw: st.DrawFn) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32 - 1))))


def law(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    raw = rng.gamma(0.7, size=shape) + 1e-6
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True))


@st.composite
def exact_tables(draw: st.DrawFn, *, min_labels: int = 1, square: bool = False) -> Transitions:
    """Exact or estimated tables; rows of any law, some of them unknown."""
    rng = generator(draw)
    num_i = draw(st.integers(min_labels, 4))
    num_j = num_i if square else num_i + draw(st.integers(0, 2))
    after = draw(st.lists(names, min_size=num_j, max_size=num_j, unique=True))
    logsnr = draw(levels)
    probs = law(rng, len(logsnr), num_i, num_j)
    if not square and draw(st.booleans()):
        probs[:, rng.integers(num_i)] = np.nan
    has_prior = square or draw(st.booleans())
    is_estimated = draw(st.booleans())
    return Transitions(
        logsnr=np.array(logsnr),
        before=tuple(after[:num_i]),
        after=tuple(after),
        probs=probs,
        weights=law(rng, num_i) if has_prior else None,
        kind="estimated" if is_estimated else "exact",
        stderr=rng.random(probs.shape) if is_estimated else None,
        reversal=draw(st.sampled_from(["posterior", "ode", "unknown"])),
        feature=draw(names),
        plateau=draw(st.one_of(st.none(), st.floats(0, 1))),
        attrs=draw(plain_attrs),
    )


@st.composite
def counted_tables(draw: st.DrawFn, *, min_labels: int = 1, full: bool = False) -> Transitions:
    """Counted tables; unless ``full``, some sources lack levels and some labels lack sources."""
    rng = generator(draw)
    num_i = draw(st.integers(min_labels, 4))
    num_j = num_i + draw(st.integers(0, 2))
    after = draw(st.lists(names, min_size=num_j, max_size=num_j, unique=True))
    logsnr = draw(levels)
    num_s = draw(st.integers(num_i if full else 1, 6))
    counts = rng.integers(0, 4, size=(num_s, len(logsnr), num_j))
    source_before = rng.integers(0, num_i, size=num_s)
    if full:
        counts[..., 0] += 1
        source_before[:num_i] = np.arange(num_i)
    return from_counts(
        counts,
        source_before,
        logsnr=logsnr,
        before=after[:num_i],
        after=after,
        sources=draw(st.lists(names, min_size=num_s, max_size=num_s, unique=True)),
        source_weight=rng.random(num_s) + 0.1 if draw(st.booleans()) else None,
        abstained=rng.integers(0, 3, size=(num_s, len(logsnr))) if draw(st.booleans()) else None,
        invalid=rng.integers(0, 3, size=(len(logsnr), num_i)) if draw(st.booleans()) else None,
        weights=law(rng, num_i) if full or draw(st.booleans()) else None,
        is_weights_estimated=draw(st.booleans()),
        reversal=draw(st.sampled_from(["stochastic", "ode"])),
        feature=draw(names),
        plateau=draw(st.one_of(st.none(), st.floats(0, 1))),
        attrs=draw(plain_attrs),
    )


@st.composite
def records(draw: st.DrawFn, *, max_rows: int = 6) -> Records:
    """Records with several features, abstentions, invalid rows and names of any kind."""
    rng = generator(draw)
    num = draw(st.integers(0, max_rows))

    def text() -> NDArray[np.str_]:
        return np.array(draw(st.lists(st.one_of(names, st.just("")), min_size=num, max_size=num)))

    def numbers() -> dict[str, Any]:
        keys = draw(st.lists(names, max_size=2, unique=True))
        return {k: np.array(draw(st.lists(any_float, min_size=num, max_size=num))) for k in keys}

    features = {}
    for name in draw(st.lists(names, max_size=2, unique=True)):
        labels = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        has_probs = draw(st.booleans())
        features[name] = FeatureColumns(
            labels=tuple(labels),
            before=rng.integers(-1, len(labels), size=num),
            after=rng.integers(-1, len(labels), size=num),
            after_probs=law(rng, num, len(labels)) if has_probs else None,
            before_values=numbers(),
            after_values=numbers(),
        )
    return Records(
        source=text(),
        logsnr=rng.normal(size=num),
        requested_logsnr=rng.normal(size=num),
        replicate=rng.integers(0, 5, size=num),
        experiment=text(),
        condition=text(),
        reversal=text(),
        valid=rng.random(num) < 0.8,
        features=features,
        planted={k: text() for k in draw(st.lists(names, max_size=2, unique=True))},
        values=numbers(),
        priors={
            name: dict(zip(own.labels, law(rng, len(own.labels)).tolist(), strict=True))
            for name, own in features.items()
        },
        attrs=draw(plain_attrs),
    )
