"""What the figures share: sizes, margins, the noise axis with both directions stated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from critwin.levels import from_logsnr, to_logsnr
from critwin.reports.palette import ROLES
from critwin.reports.svg import clean
from critwin.reports.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FONT",
    "INK",
    "MUTED",
    "RULE",
    "SIZES",
    "box",
    "noise_axis",
    "plain_axes",
    "round_ticks",
    "short",
]


class Spanned(Protocol):
    """Whatever says how far the noise axis reaches."""

    @property
    def t_max(self) -> float:
        """Right end of the axis, OU time."""
        ...


INK, MUTED, RULE = (ROLES[name].light for name in ("ink", "muted", "rule"))
SIZES = {"wide": 880.0, "narrow": 360.0}
FONT = {"wide": 12.0, "narrow": 11.0}


def box(
    kind: str, height: float, *, left: float, right: float, top: float, bottom: float
) -> tuple[float, float, float, float]:
    """Axes rectangle from margins in pixels."""
    width = SIZES[kind]
    if kind == "narrow":
        left = min(left, 46.0)
    return (
        left / width,
        bottom / height,
        (width - left - right) / width,
        (height - top - bottom) / height,
    )


def plain_axes(axes: Axes, kind: str) -> None:
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(RULE)
    axes.tick_params(
        colors=MUTED, labelsize=FONT[kind] - 1, length=3, color=RULE, labelcolor=MUTED
    )
    axes.grid(axis="both", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def noise_axis(axes: Axes, data: Spanned, kind: str) -> None:
    """OU time below, log-SNR and sigma above, both directions stated."""
    plain_axes(axes, kind)
    size = FONT[kind]
    axes.set_xlim(0, data.t_max)
    ticks = round_ticks(data.t_max, 8 if kind == "wide" else 4)
    axes.set_xticks(ticks)
    axes.grid(visible=False, axis="x")
    arrows = (
        ("left", 0.0, "← generation runs"),
        ("center", 0.5, "OU time t"),
        ("right", 1.0, "noise grows →"),
    )
    for align, x, text in arrows:
        colour = INK if align == "center" else MUTED
        axes.annotate(
            text, (x, 0), (0, -34), xycoords="axes fraction", textcoords="offset points",
            ha=align, va="top", color=colour, fontsize=size,
        )  # fmt: skip
    above = axes.secondary_xaxis("top")
    above.set_facecolor("none")
    above.spines["top"].set_color(RULE)
    top = [tick for tick in ticks if tick > 0]
    words = []
    for tick in top:
        level = float(to_logsnr(tick, "t"))
        sigma = float(from_logsnr(level, "sigma"))
        words.append(f"{number(level, digits=1)}\n{_sigma(sigma)}")
    above.set_xticks(top, words)
    above.tick_params(labelsize=size - 2, length=3, color=RULE, labelcolor=MUTED)
    axes.annotate(
        "log-SNR\nsigma", (0, 1), (-12, 7), xycoords="axes fraction", textcoords="offset points",
        ha="left", va="bottom", color=MUTED, fontsize=size - 2, linespacing=1.2,
    )  # fmt: skip


def round_ticks(stop: float, most: int) -> list[float]:
    """Round tick positions from 0 on, at most ``most`` steps."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        if stop / step <= most:
            return [round(step * k, 6) for k in range(int(stop / step + 1e-9) + 1)]
    return [0.0, stop]


def short(text: str, most: int) -> str:
    flat = clean(text)
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def _sigma(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.1e}".replace("e+0", "e")
