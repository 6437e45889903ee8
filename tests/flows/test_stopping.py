"""How a process is made to stop: what each signal does, and what becomes of a stop that takes too long."""

from __future__ import annotations

import os
import signal
import threading
from queue import Queue

import pytest

from connectors.sources.source import StopSignal
from flows.stopping import Phase, stopped_by_signals

WAIT_SECONDS = 20.0
NEVER_SECONDS = 3600.0


class Process:
    """What is asked to stop."""

    def __init__(self, phase: Phase) -> None:
        self.stop = StopSignal()
        self.phase = phase
        self.released = threading.Event()

    def release(self) -> None:
        self.released.set()


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_has_nobody_wait_any_more(number: signal.Signals) -> None:
    process, before = Process(Phase.RUNNING), handlers()
    also = threading.Event()

    with stopped_by_signals(process, process, also.set, seconds=NEVER_SECONDS):
        os.kill(os.getpid(), number)
        assert also.wait(WAIT_SECONDS)

    assert process.stop.is_asked()
    assert process.released.is_set()
    assert handlers() == before


@pytest.mark.parametrize(("phase", "code"), [(Phase.RUNNING, 1), (Phase.ENDED, 0), (Phase.STARTING, 0)])
def test_what_takes_too_long_is_ended_and_the_code_says_whether_the_flow_had_come_to_its_end(phase: Phase, code: int) -> None:
    process, codes = Process(phase), Queue[int]()

    with stopped_by_signals(process, seconds=0.01, end=codes.put):
        os.kill(os.getpid(), signal.SIGINT)
        ended_with = codes.get(timeout=WAIT_SECONDS)

    assert ended_with == code


def test_a_process_that_has_not_begun_is_ended_at_once_by_sigterm() -> None:
    process, codes = Process(Phase.STARTING), Queue[int]()

    with stopped_by_signals(process, seconds=NEVER_SECONDS, end=codes.put):
        os.kill(os.getpid(), signal.SIGTERM)
        ended_with = codes.get(timeout=WAIT_SECONDS)

    assert ended_with == 0


def test_a_second_sigterm_changes_nothing() -> None:
    process, codes = Process(Phase.RUNNING), Queue[int]()
    asked: Queue[float] = Queue()

    with stopped_by_signals(process, also=lambda: asked.put(process.stop.age_seconds()), seconds=NEVER_SECONDS, end=codes.put):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        asked.get(timeout=WAIT_SECONDS)

    assert asked.empty()
    assert codes.empty()


def test_a_stop_that_nobody_asked_for_has_no_age() -> None:
    stop = StopSignal()

    assert (stop.is_asked(), stop.age_seconds()) == (False, 0.0)
