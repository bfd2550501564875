"""Write the pages and figures of the gallery; every number in them comes from here.

Usage:
    python docs/gallery/make.py [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from _make import gaussians, others, trees
from _make.drawing import figure
from _make.parts import Entry
from _make.writing import index, page

HERE = Path(__file__).parent
ENTRIES: dict[str, Callable[[], Entry]] = {
    "two-gaussians": gaussians.two_gaussians,
    "random-spherical": gaussians.random_spherical,
    "well-conditioned": gaussians.well_conditioned,
    "sparse-dictionary": gaussians.sparse_dictionary,
    "hierarchical": trees.hierarchical,
    "gaussian-tree": trees.gaussian_tree,
    "masking": others.masking,
    "equal-means": gaussians.equal_means,
    "log-concave": others.log_concave,
    "regimes": others.regimes,
}


def output_of(code: str) -> str:
    """What a block of Python prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "gallery", "exec"), {})
    return printed.getvalue()


def files_of(entry: Entry) -> dict[str, str]:
    """The files of one entry: its page and its figures, name -> text."""
    files = {f"{entry.name}.md": page(entry, output_of(entry.code))}
    files[f"{entry.name}.svg"] = figure(entry)
    return files | {f"{name}.svg": svg for name, svg in entry.drawings.items()}


def index_of_pages() -> str:
    """The index, from the pages as they are."""
    return index({name: (HERE / f"{name}.md").read_text("utf-8") for name in ENTRIES})


def write(names: Iterable[str]) -> None:
    """Write the files of some entries, or of all, and the index."""
    for name in list(names) or list(ENTRIES):
        for file, text in files_of(ENTRIES[name]()).items():
            (HERE / file).write_text(text, encoding="utf-8")
            sys.stdout.write(f"{file} {len(text.encode()):,} bytes\n")
    (HERE / "index.md").write_text(index_of_pages(), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ENTRIES, []], help="entries; all by default")
    write(parser.parse_args().names)


if __name__ == "__main__":
    main()
