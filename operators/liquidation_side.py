"""One position side's rolling liquidations: everything of the longest window, and the sums of its last 90 seconds, the head.

The head is kept up at every event, so that a cascade is seen at once; all else is worked out when a full reading is due.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from market.readings import WINDOWS_S, SideWindows
from operators.liquidation_ledger import NEVER_US, Ledger, add_by_code

MAX_EVENTS = 2_000_000
"""Per position side, in the longest window. Beyond it, as beyond the ledger's largest sum, the oldest eighth is folded out
early: the long windows then say too little. The worst hour so far had well under that in all assets together."""

MAX_VENUES = 41
"""Numbers that venues may have."""

HEAD_US = 90_000_000
"""The look-back that calls a cascade."""

LONGEST_US = max(WINDOWS_S) * 1_000_000
_SPANS_US = tuple(seconds * 1_000_000 for seconds in WINDOWS_S)


class SideState(msgspec.Struct, frozen=True, gc=False):
    """One side, saved: arrays as bytes. All else follows from them."""

    times: bytes
    notionals: bytes
    codes: bytes
    head: int
    peak_micros: int
    late_count: int


class Side:
    """One position side: a ledger of the longest window, and the sums of its last 90 seconds, the head.

    An arrival costs little: it enters the head's sums and three lists. :meth:`settle` brings these into the ledger. ``code``
    is twice the venue's number, and one more where the venue publishes every liquidation.
    """

    __slots__ = (
        "_changes_us",
        "_code_micros",
        "_counted",
        "_fresh_codes",
        "_fresh_notionals",
        "_fresh_times",
        "_head",
        "_late_count",
        "_ledger",
        "_newest_us",
        "_reading",
        "_saved",
        "_silent_us",
        "leaves_us",
        "peak_micros",
        "total_count",
        "total_micros",
        "venues_active",
    )

    def __init__(self, saved: SideState | None) -> None:
        """Build from a snapshot, or new."""
        self._ledger = Ledger(_SPANS_US)
        if saved is not None:
            self._ledger = Ledger(_SPANS_US, times=saved.times, notionals=saved.notionals, codes=saved.codes)
        self._head = 0 if saved is None else saved.head  # its position in the ledger
        self._fresh_times: list[int] = []  # came since the last settling
        self._fresh_notionals: list[int] = []
        self._fresh_codes: list[int] = []
        self.peak_micros = 0 if saved is None else saved.peak_micros
        self._late_count = 0 if saved is None else saved.late_count
        self._saved = saved
        self._reading: SideWindows | None = None
        self._changes_us = 0
        self.total_micros = sum(self._ledger.notionals[self._head :])
        self.total_count = len(self._ledger.times) - self._head
        self._recount()
        self._await_leaving()

    def _recount(self) -> None:
        """Work out from the ledger what is known per venue of the head."""
        head, ledger = self._head, self._ledger
        self._counted = head  # what left the head before this position is taken out of _code_micros
        self._code_micros = [0] * (2 * MAX_VENUES)
        add_by_code(self._code_micros, ledger.notionals[head:], ledger.codes[head:])
        self._newest_us = [0] * MAX_VENUES  # event time per venue
        for time_us, code in zip(ledger.times[head:], ledger.codes[head:], strict=True):
            self._newest_us[code >> 1] = time_us
        self._find_silent(0)

    def _find_silent(self, from_us: int) -> None:
        """Count the venues with an event after ``from_us``, and find out when the next one has none any more."""
        active_us = [newest_us for newest_us in self._newest_us if newest_us > from_us]
        self.venues_active = len(active_us)
        self._silent_us = min(active_us, default=NEVER_US)

    def snapshot(self) -> SideState:
        """Return the ledger as bytes; the same object again while nothing changed."""
        self.settle()
        if self._saved is None:
            ledger = self._ledger
            self._saved = SideState(
                ledger.times.tobytes(),
                ledger.notionals.tobytes(),
                bytes(ledger.codes),
                self._head,
                self.peak_micros,
                self._late_count,
            )
        return self._saved

    def is_empty(self) -> bool:
        """Say whether no event is held. All is settled."""
        return not self._ledger.times

    def count_late(self) -> None:
        """Count an event that enters no window."""
        self._late_count += 1
        self._saved = self._reading = None

    def add(self, event_time_us: int, notional_micros: int, code: int, head_from_us: int) -> None:
        """Take an event of the last 90 seconds, those after ``head_from_us``."""
        self._fresh_times.append(event_time_us)
        self._fresh_notionals.append(notional_micros)
        self._fresh_codes.append(code)
        self.total_count += 1
        self.total_micros = total_micros = self.total_micros + notional_micros
        if total_micros > self.peak_micros:  # noqa: PLR1730 - a call of max() at every liquidation costs more
            self.peak_micros = total_micros
        newest_us = self._newest_us
        venue = code >> 1
        if event_time_us > newest_us[venue]:
            if newest_us[venue] <= head_from_us:
                self.venues_active += 1
                self._silent_us = min(self._silent_us, event_time_us)
            newest_us[venue] = event_time_us

    def add_behind(self, event_time_us: int, notional_micros: int, code: int) -> None:
        """Take an event older than the head, as there are where lateness is allowed beyond 90 seconds."""
        self.settle()
        self._count_left()
        self._ledger.insert([event_time_us], [notional_micros], [code])
        self._head += 1
        self._counted += 1
        self._saved = self._reading = None

    def settle(self) -> None:
        """Bring the new events into the ledger. Before any of them can leave the head."""
        if not self._fresh_times:
            return
        add_by_code(self._code_micros, self._fresh_notionals, self._fresh_codes)
        self._ledger.insert(self._fresh_times, self._fresh_notionals, self._fresh_codes)
        self._fresh_times, self._fresh_notionals, self._fresh_codes = [], [], []
        self._await_leaving()
        self._saved = self._reading = None

    def _await_leaving(self) -> None:
        times = self._ledger.times
        self.leaves_us = times[self._head] if self._head < len(times) else NEVER_US  # event time of the next to leave the head

    def advance(self, from_us: int) -> None:
        """Let everything leave the head that is not after ``from_us``. An empty head forgets its peak."""
        if self.leaves_us > from_us:
            return
        self._saved = self._reading = None
        times, notionals = self._ledger.times, self._ledger.notionals
        first = head = self._head
        end = len(times)
        left_micros = 0
        while head < end and times[head] <= from_us:
            left_micros += notionals[head]
            head += 1
        self._head = head
        self._await_leaving()
        self.total_count -= head - first
        self.total_micros -= left_micros
        if not self.total_micros:
            self.peak_micros = 0
        if self._silent_us <= from_us:
            self._find_silent(from_us)

    def _count_left(self) -> None:
        """Take what left the head out of the sums per code."""
        counted, head = self._counted, self._head
        if counted < head:
            self._counted = head
            ledger = self._ledger
            add_by_code(self._code_micros, ledger.notionals[counted:head], ledger.codes[counted:head], sign=-1)

    def read(self, now_us: int, venues: list[str]) -> tuple[SideWindows, int]:
        """Return every window, and when the next event leaves one of them. All is settled and the head is at ``now_us``."""
        if self._reading is None or now_us >= self._changes_us:
            self._reading = self._work_out(now_us, venues)
        return self._reading, self._changes_us

    def _work_out(self, now_us: int, venues: list[str]) -> SideWindows:
        ledger = self._ledger
        while len(ledger.times) > MAX_EVENTS or not ledger.update():
            self._fold_out(now_us - LONGEST_US)
        self._count_left()
        totals = ledger.totals(now_us)
        self._changes_us = ledger.changes_us()
        outside = ledger.outside()
        if outside * 8 >= len(ledger.times):  # so that forgetting costs little per event
            self._forget(outside)
        newest_us, micros = self._newest_us, self._code_micros
        head_from_us = now_us - HEAD_US
        venue_micros = {}
        full_micros = 0
        for number, venue in enumerate(venues):
            if newest_us[number] > head_from_us:
                venue_full_micros = micros[2 * number + 1]
                full_micros += venue_full_micros
                venue_micros[venue] = micros[2 * number] + venue_full_micros
        return SideWindows(*totals, venue_micros, full_micros, self.peak_micros, self._late_count)

    def _fold_out(self, from_us: int) -> None:
        """Forget what is not after ``from_us``, or else the oldest eighth, although a window holds it."""
        times, head = self._ledger.times, self._head
        count = bisect_right(times, from_us) or (len(times) + 7) // 8
        self._head = max(head, count)
        self.total_micros -= sum(self._ledger.notionals[head : self._head])
        self.total_count -= self._head - head
        if not self.total_micros:
            self.peak_micros = 0
        self._forget(count)
        self._recount()
        self._await_leaving()

    def _forget(self, count: int) -> None:
        if count:
            self._ledger.drop(count)
            self._head -= count
            self._counted -= count
            self._saved = None
