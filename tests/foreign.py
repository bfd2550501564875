"""Tables of a two-label feature whose window is known, as someone else would hand them over."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from critwin.levels import from_logsnr
from critwin.transitions import Transitions

LEVELS = np.linspace(4.0, -4.0, 9)


def stays(shift: float) -> Any:
    """Probability of keeping the label; half of it is kept at logsnr ``shift``."""
    return 0.5 + 0.5 / (1 + np.exp(-2 * (LEVELS - shift)))


def exact(shift: float, feature: str = "label") -> Transitions:
    stay = stays(shift)
    return Transitions(
        logsnr=LEVELS,
        before=("0", "1"),
        after=("0", "1"),
        probs=np.stack([np.stack([stay, 1 - stay], 1), np.stack([1 - stay, stay], 1)], 1),
        weights=[0.5, 0.5],
        feature=feature,
    )


def columns(shift: float = 0.0, *, sources: int = 120, seed: int = 5) -> dict[str, Any]:
    """One result a source and level; the same sources and draws whatever the shift."""
    rng = np.random.Generator(np.random.Philox(seed))
    before = rng.integers(0, 2, sources)
    is_lost = rng.random((sources, len(LEVELS))) > stays(shift)
    after = np.where(is_lost, 1 - before[:, None], before[:, None]).ravel()
    return {
        "source": [f"s{n}" for n in range(sources) for _ in LEVELS],
        "t": np.tile(from_logsnr(LEVELS, "t"), sources),
        "before": np.repeat(before, len(LEVELS)),
        "after": after,
        "weight": 1,
    }


def csv(path: Path, data: dict[str, Any], *, without: tuple[str, ...] = ()) -> Path:
    frame = pd.DataFrame({k: v for k, v in data.items() if k not in without})
    frame.to_csv(path, index=False)
    return path


def kept_csv(path: Path, shift: float = 0.0, **options: Any) -> Path:
    """The same table with ``kept`` instead of labels."""
    data = columns(shift, **options)
    data["kept"] = (data["before"] == data["after"]).astype(int)
    return csv(path, data, without=("before", "after", "weight"))
