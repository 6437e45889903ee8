"""Where the program begins, and where it ends: it can be told to end before the rest of it, seconds' worth, is loaded."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from connectors.signals import listen


def main() -> NoReturn:
    """Run the command line."""
    listen()
    from cascadewatch.cli import main as run  # noqa: PLC0415 - what takes seconds comes after the line above

    code: object = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - the end of the program, as Python would have it
        sys.excepthook(*sys.exc_info())
        code = 1
    _leave(code)


def _leave(code: object) -> NoReturn:
    """End without waiting for threads that a library keeps: Python would end them on their return, and abort by that."""
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)
