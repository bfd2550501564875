"""Write ``manifest.json``: the SHA-256 of every shipped file of weights.

``load_digits`` refuses weights that are not those of the manifest. Run this after every export.

Usage:
    python training/digits/make_manifest.py [--weights src/critwin/models/digits/weights] [--check]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

__all__ = ["digests", "main"]

ROOT = Path(__file__).parents[2]
NAME = "manifest.json"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, but the manifest itself.

    Args:
        folder: The folder of weights.

    Returns:
        Path below the folder, with ``/``, in order -> hexadecimal digest.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / NAME)
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ROOT / "src/critwin/models/digits/weights")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args(argv)
    found = {"schema": 1, "sha256": digests(args.weights)}
    path = args.weights / NAME
    if args.check:
        is_same = path.is_file() and json.loads(path.read_text(encoding="utf-8")) == found
        print(f"{path}: {'as on disk' if is_same else 'NOT as on disk, run make_manifest.py'}")
        return 0 if is_same else 2
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(found['sha256'])} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
