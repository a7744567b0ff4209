"""`python -m blissdata.schemas [--check]`: writes what is made of the TypedDicts.

The JSON Schema files go beside the modules; in a checkout, the reference page into the docs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from blissdata.schemas.files import FILES, build, path_of, text_of
from blissdata.schemas.reference import page

__all__ = ["main", "outputs"]

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "scan_info.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files that are stale, or with `--check` only names them: then 1 if there are
    any."""
    parser = argparse.ArgumentParser(prog="python -m blissdata.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if any is stale")
    check = parser.parse_args(argv).check
    stale = {path: text for path, text in outputs().items() if _current(path) != text}
    for path, text in stale.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{'stale' if check else 'written'}: {path}\n")
    if check and stale:
        sys.stdout.write("run `python -m blissdata.schemas` and commit what it writes\n")
    return 1 if check and stale else 0


def outputs() -> dict[Path, str]:
    """What each file should hold."""
    files = {path_of(name): text_of(build(name)) for name in FILES}
    return files | ({PAGE: page()} if PAGE.parent.is_dir() else {})


def _current(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
