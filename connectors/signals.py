"""Signals that end a program: heard from its first moment on, and also while a library keeps the main thread.

Python calls a handler only when the main thread is back from what it has called, and a library that waits for a store may keep
it for minutes. And the first process of a container gets no signal that it does not handle. So the handlers do nothing but
be there, and a thread reads what came and acts.

Imports the standard library alone: it is the first thing that a program loads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)
"""What an orchestrator sends, and what Ctrl-C does."""

_SIGNALLED = 128  # and the signal's number: what a shell says of a process that a signal ended

React = Callable[[signal.Signals], None]


def end_at_once(number: signal.Signals) -> None:
    """End the process here and now: nothing is flushed or closed. Everything on disk bears that, as it bears a kill."""
    os._exit(_SIGNALLED + number)


class _Ear:
    """Hears for the process. There is one."""

    def __init__(self) -> None:
        self.react: React = end_at_once
        self.is_listening = False
        self._heard = -1
        self._speak = -1
        self._before: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._heard, self._speak = os.pipe()
        os.set_blocking(self._speak, False)
        self._before = {number: signal.signal(number, _be_there) for number in ENDING}
        signal.set_wakeup_fd(self._speak, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, args=(self._heard,), name="signals", daemon=True)
        self._thread.start()
        self.is_listening = True

    def stop(self) -> None:
        self.is_listening = False
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._speak)
        if self._thread is not None:
            self._thread.join()
        os.close(self._heard)

    def _listen(self, heard: int) -> None:
        while numbers := os.read(heard, 64):
            for number in numbers:
                if number in ENDING:
                    self._act(signal.Signals(number))

    def _act(self, number: signal.Signals) -> None:
        try:
            self.react(number)
        except Exception:  # noqa: BLE001 - whatever it is, the process was told to end
            sys.excepthook(*sys.exc_info())
            end_at_once(number)


_EAR = _Ear()


def listen() -> None:
    """Listen from now on. Until somebody else reacts, a signal ends the process at once. The main thread's.

    The exit code is then 143 for SIGTERM and 130 for SIGINT.
    """
    if not _EAR.is_listening:
        _EAR.start()


@contextmanager
def heard_by(react: React) -> Iterator[None]:
    """Have ``react`` called with each signal while the context lasts, in a thread of its own. The main thread's."""
    is_first = not _EAR.is_listening
    before, _EAR.react = _EAR.react, react
    if is_first:
        _EAR.start()
    try:
        yield
    finally:
        if is_first:
            _EAR.stop()
        _EAR.react = before


def _be_there(_number: int, _frame: object) -> None:
    """Do nothing: without a handler there would be no signal, for the first process of a container."""
