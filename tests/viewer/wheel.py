"""`python -m tests.viewer.wheel`: does the package serve its page where there is no node?

Builds the wheel from what is committed, installs it with the extra `web` into an environment of its own, hides
every node from it, starts `blissdata web` there, and asks for the page and all that it loads. Prints what it
found; exit code 1 if anything is missing. Takes a minute or two, and needs the package registries.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from blissdata.testing.servers import TestServer

ROOT = Path(__file__).parents[2]

TOKEN = "a-token-for-the-installed-page"  # noqa: S105 — of a test


def built(directory: Path) -> Path:
    """The wheel of what is committed."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", "HEAD"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory / "source", filter="data")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, "./source"],
        cwd=directory,
        check=True,
        env={**os.environ, "BLISSDATA_PAGE": "required"},
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def without_node(programs: Path) -> str:
    """A PATH on which there is no node."""
    places = [str(programs), "/usr/bin", "/bin"]
    kept = [place for place in places if not shutil.which("node", path=place)]
    if str(programs) not in kept:
        raise RuntimeError("the environment brought a node along")
    return os.pathsep.join(kept)


def asked(address: str, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=20) as answer:  # noqa: S310 — our own
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def main() -> int:
    with tempfile.TemporaryDirectory() as name, TestServer() as server:
        directory = Path(name)
        wheel = built(directory)
        with zipfile.ZipFile(wheel) as archive:
            page = [one for one in archive.infolist() if "/viewer/static/" in one.filename]
        packed, whole = (
            sum(getattr(one, size) for one in page) for size in ("compress_size", "file_size")
        )
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, of which the page is")
        print(f"  {len(page)} files, {packed / 1e6:.2f} MB ({whole / 1e6:.2f} MB unpacked)")
        venv = directory / "venv"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", f"{wheel}[web]"]
        subprocess.run(pip, check=True)
        path = without_node(venv / "bin")
        print(f"installed; on its PATH there is {shutil.which('node', path=path) or 'no node'}")
        subprocess.run(
            [
                venv / "bin" / "python",
                "-c",
                f"from blissdata import DataStore; DataStore({server.url!r}, init_db=True)",
            ],
            check=True,
        )
        command = [
            venv / "bin" / "blissdata",
            "web",
            "--url",
            server.url,
            "--port",
            "0",
            "--token",
            TOKEN,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PATH": path})
        try:
            assert process.stdout is not None
            found = (re.search(r"(http://\S+/)#token", line) for line in process.stdout)
            address = next(one[1] for one in found if one)
            status, html = asked(address, "")
            wanted = re.findall(r'(?:src|href)="\./?([^"]+)"', html.decode())
            print(f"GET /: {status}, {len(html)} bytes, which load {', '.join(wanted)}")
            answers = {one: asked(address, one) for one in [*wanted, "licences.md"]}
            for one, (code, body) in answers.items():
                print(f"  {one}: {code}, {len(body)} bytes")
            code, _ = asked(address, f"api/scans?token={TOKEN}")
            print(f"GET /api/scans: {code}")
        finally:
            process.terminate()
            process.communicate(timeout=20)
    good = status == code == 200 and wanted and all(c == 200 and b for c, b in answers.values())
    print("the page is served" if good else "SOMETHING IS MISSING")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
