"""From a matplotlib figure to an SVG that can stand in the page: themed, labelled, repeatable.

Text stays text, ids are prefixed so that figures do not collide, colours become CSS variables,
nothing carries a date or a random name: equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from critwin.reports.palette import ROLES, css_variables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["clean", "drawing", "new_figure", "standalone", "to_svg"]

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "critwin",
    "svg.image_inline": True,
    "text.parse_math": False,  # labels are data: a "$" in them is a dollar
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12.0,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": False,
    "path.simplify": False,
    "hatch.linewidth": 0.7,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Settings under which figures of the report are drawn; they end with the block."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # labels may be of any script; the browser, not matplotlib, finds the glyphs
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message=".*does not support")
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty transparent figure; one unit is one CSS pixel at the natural size.

    Args:
        width: Pixels.
        height: Pixels.

    Returns:
        The figure, not known to pyplot.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72.0, height / 72.0), dpi=72, facecolor="none")


def to_svg(figure: Figure, *, key: str, title: str, desc: str) -> str:
    """The figure as an ``<svg>`` element with a title and a description.

    Args:
        figure: Drawn under :func:`drawing`, in the light colours of the palette.
        key: Prefix of every id; letters, digits and hyphens, unique in the page.
        title: What the figure is, for ``<title>``.
        desc: What it shows, for ``<desc>``.

    Returns:
        Markup, safe to put into HTML as it is.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
        raise ValueError(f"key of a figure: got {key!r}, wanted letters, digits and hyphens")
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    head, body = body[: body.index(">") + 1], body[body.index(">") + 1 :]
    box = re.search(r'viewBox="([^"]*)"', head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda match: _tag(match.group(0), key), body)
    body = re.sub(r"\n\s*", "\n", body)
    names = f"{key}-title {key}-desc"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box.group(1) if box else "0 0 1 1"}" role="img" aria-labelledby="{names}">'
        f'<title id="{key}-title">{escape(clean(title))}</title>'
        f'<desc id="{key}-desc">{escape(clean(desc))}</desc>{body}'
    )


def standalone(svg: str) -> str:
    """An ``<svg>`` element as a file of its own, which follows the reader's light or dark theme.

    Args:
        svg: Markup from :func:`to_svg`.

    Returns:
        The same with a ground, fonts and both themes, and a final newline.
    """
    light, dark = css_variables("light"), css_variables("dark")
    style = (
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "svg{background:var(--bg);font-family:system-ui,sans-serif}</style>"
    )
    head = svg.index(">") + 1
    return svg[:head] + style + svg[head:] + "\n"


def clean(text: object) -> str:
    """Text without control characters and other unprintables, which no markup can carry.

    Args:
        text: Anything.

    Returns:
        One line; what cannot be shown is U+FFFD.
    """
    flat = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "\ufffd" for c in flat)


def _tag(tag: str, key: str) -> str:
    """One tag, its ids prefixed, its colours variables, its numbers short."""
    if 'id="' in tag:
        # ids that nothing refers to only collide between figures
        tag = re.sub(
            r' ?\bid="((?:figure|axes|patch|line2d|text|xtick|ytick|legend)_[^"]*'
            r'|matplotlib\.axis_\d+|FillBetween[^"]*|LineCollection[^"]*'
            r'|PolyCollection[^"]*|PathCollection[^"]*)"',
            "",
            tag,
        )
        tag = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', tag)
    tag = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", tag)
    tag = re.sub(r"#[0-9a-fA-F]{6}\b", _variable, tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"(font: (?:[a-z]+ )*[\d.]+px) [^;\"]*", r"\1 inherit", tag)
    return re.sub(r"-?\d+\.\d{2,}", _shorter, tag)


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match.group(0)):.2f}".rstrip("0").rstrip(".")


def _variable(match: re.Match[str]) -> str:
    colour = match.group(0).lower()
    for name, role in ROLES.items():
        if role.light == colour:
            return f"var(--{name},{colour})"
    return match.group(0)
