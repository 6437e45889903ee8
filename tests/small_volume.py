"""A small disk of its own for a directory, that a test can fill and make room on again. Needs the right to mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_BLOCK = b"x" * 4096


class SmallVolume:
    """A directory with a disk of its own."""

    def __init__(self, folder: Path) -> None:
        """Take a directory that is one."""
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all the room that is left."""
        filler = os.open(self._filler, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        with suppress(OSError):
            while True:
                os.write(filler, _BLOCK)
        os.close(filler)

    def make_room(self) -> None:
        """Give it back."""
        self._filler.unlink()


@contextmanager
def small_volume(folder: Path, megabytes: int = 64) -> Iterator[SmallVolume]:
    """Have a directory, made when missing, on a disk of its own while the context lasts; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here, which takes root and the right to mount: {mounted.stderr.strip()}")
    try:
        yield SmallVolume(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
