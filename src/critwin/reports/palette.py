"""Colours of the report: roles that the style sheet sets for light and for dark.

Figures are drawn once, in the light colours; each is then replaced by a CSS variable, so that the
same drawing serves both themes and print. Series colours are Okabe–Ito's hues, shifted in
lightness where the original has less than 3:1 against the background, and each comes with its own
dash pattern and marker: colour is never the only carrier.

Source: Okabe & Ito (2008), *Color universal design*.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "BACKGROUND",
    "ROLES",
    "SERIES",
    "Role",
    "Series",
    "contrast",
    "css_variables",
    "series",
]


class Role(NamedTuple):
    """A colour by purpose, in both themes."""

    light: str
    dark: str


class Series(NamedTuple):
    """How one feature is drawn: the name of its colour role, its dashes, its marker."""

    role: str
    dashes: tuple[float, ...]
    marker: str


BACKGROUND = Role("#ffffff", "#14181d")

ROLES: dict[str, Role] = {
    "c0": Role("#0072b2", "#56b4e9"),
    "c1": Role("#c24e00", "#ff8f4a"),
    "c2": Role("#007a5a", "#2cc79b"),
    "c3": Role("#a9527f", "#e29bc2"),
    "c4": Role("#8f6000", "#e6b13c"),
    "c5": Role("#333333", "#d9dee3"),
    "ink": Role("#1b1f24", "#e8ebee"),
    "muted": Role("#565f6b", "#a9b3be"),
    "rule": Role("#c9cfd6", "#3a424c"),
    "wash": Role("#f2f4f6", "#1e242b"),
    "link": Role("#0b5cad", "#7cc4ff"),
    "heat": Role("#0471b0", "#0471b0"),  # cells mix up to 70 % of it into the wash
}

_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (6.0, 2.5),
    (1.5, 2.0),
    (8.0, 2.5, 1.5, 2.5),
    (4.0, 1.5, 1.0, 1.5, 1.0, 1.5),
    (10.0, 4.0),
)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def series(index: int) -> Series:
    """Colour, dashes and marker of the ``index``-th feature.

    Args:
        index: From 0. After six, colours come again with other dashes and markers.

    Returns:
        The three, no two features below 36 alike.
    """
    turn = index // len(_DASHES)
    return Series(
        f"c{index % 6}", _DASHES[(index + turn) % 6], _MARKERS[(index + turn) % len(_MARKERS)]
    )


SERIES = tuple(series(index) for index in range(6))


def css_variables(theme: str) -> str:
    """Declarations of all roles for ``"light"`` or ``"dark"``.

    Args:
        theme: Which.

    Returns:
        CSS, e.g. ``--c0:#0072b2;…``.
    """
    roles = {"bg": BACKGROUND, **ROLES}
    return "".join(f"--{name}:{getattr(role, theme)};" for name, role in roles.items())


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it, 1 to 21.

    Args:
        first: ``#rrggbb``.
        second: ``#rrggbb``.

    Returns:
        The ratio; text wants 4.5, graphics want 3.
    """
    lights = sorted((_luminance(first), _luminance(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255.0 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
