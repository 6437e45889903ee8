"""What is derived per asset: window sums, deltas, cascades, scores, alerts. Output of the steps keyed by asset."""

from __future__ import annotations

import enum

import msgspec

from market.events import Liquidation, MinerDay, Pressure
from market.raw import Cause, PositionSide

WINDOWS_S = (10, 60, 90, 120, 300, 3600)
"""Look-backs of the rolling liquidation sums in seconds; 90 is the one that calls a cascade (scores §4)."""

DELTA_WINDOWS_S = (300, 3600, 86_400)
"""Look-backs of the open-interest, funding and price deltas in seconds."""


class LiquidationPulse(msgspec.Struct, frozen=True, gc=False):
    """The 90-second sums after one liquidation, or after a tick that changed them. Micro-USD, events, venues.

    Attributes:
        liquidation: The one that has just entered the sums; ``None`` after a tick.
    """

    cause: Cause
    asset: str
    long_micros: int
    short_micros: int
    long_count: int
    short_count: int
    long_venues: int
    short_venues: int
    liquidation: Liquidation | None = None


class SideWindows(msgspec.Struct, frozen=True, gc=False):
    """One position side's liquidations over every window of :data:`WINDOWS_S`, in that order.

    Attributes:
        usd_micros: Sum per window.
        counts: Events per window.
        largest_micros: Largest single event per window; 0 when empty.
        venue_micros: 90-second sum per venue active in the last 90 s.
        full_micros: 90-second sum of venues that publish every liquidation.
        peak_micros: Largest 90-second sum since it was last zero.
        late_count: Events so far that came later than ``allowed_lateness`` and entered no window.
    """

    usd_micros: tuple[int, ...]
    counts: tuple[int, ...]
    largest_micros: tuple[int, ...]
    venue_micros: dict[str, int]
    full_micros: int
    peak_micros: int
    late_count: int


class LiquidationWindows(msgspec.Struct, frozen=True, gc=False):
    """Every window of both sides of an asset as of the receive time of ``cause``; at most one per asset and second."""

    cause: Cause
    asset: str
    long: SideWindows
    short: SideWindows


class DerivativesReading(msgspec.Struct, frozen=True, gc=False):
    """Where an asset's leverage stands, summed or weighted over the venues known, and how it changed.

    Changes are over :data:`DELTA_WINDOWS_S`, in that order; ``None`` where no venue knows both ends.

    Attributes:
        mark_price: USD per coin, open-interest-weighted over venues.
        price_changes_percent: Of ``mark_price``.
        open_interest_base: Coins, one side, summed.
        open_interest_changes_percent: In coins, over the venues that know both ends.
        venue_open_interest_changes_percent: The same per venue; absent where unknown.
        funding_rate_8h: Fraction, open-interest-weighted.
        funding_changes: Difference of ``funding_rate_8h``.
        venue_funding_changes: The same per venue.
        long_short_ratio: Open-interest-weighted.
        missing: Per input (``open_interest``, ``open_interest_5m`` …), the expected venues that do not know it.
        oldest_input_time_us: Event time of the oldest value that entered.
    """

    cause: Cause
    asset: str
    mark_price: float | None
    price_changes_percent: tuple[float | None, ...]
    open_interest_base: float | None
    open_interest_usd: float | None
    open_interest_changes_percent: tuple[float | None, ...]
    venue_open_interest_changes_percent: dict[str, tuple[float | None, ...]]
    funding_rate_8h: float | None
    funding_changes: tuple[float | None, ...]
    venue_funding_changes: dict[str, tuple[float | None, ...]]
    long_short_ratio: float | None
    missing: dict[str, tuple[str, ...]]
    oldest_input_time_us: int | None


class CascadePhase(str, enum.Enum):
    """Transitions of a cascade. Growth and exhaustion find their place here."""

    BEGAN = "began"
    ENDED = "ended"


class CascadeTransition(msgspec.Struct, frozen=True, gc=False):
    """One step in a cascade's life, emitted at once.

    Attributes:
        cascade_id: The same for all transitions of one cascade, and the same in every replay.
        began_time_us: Receive time of the frame that began it.
        window_micros: 90-second sum of that side at the transition.
        peak_micros: Largest 90-second sum so far.
        total_micros: Sum of that side's liquidations from the window that began it until now.
        venues: Seen on that side during the cascade.
    """

    cause: Cause
    cascade_id: str
    asset: str
    position_side: PositionSide
    phase: CascadePhase
    began_time_us: int
    window_micros: int
    peak_micros: int
    total_micros: int
    total_count: int
    venues: tuple[str, ...]


class Severity(str, enum.Enum):
    """How much a score should disturb (scores §3)."""

    NONE = "none"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AbsoluteRisk(msgspec.Struct, frozen=True, gc=False):
    """Liquidation Risk, scheme ``absolute``: points per component; ``None`` where the input is missing (it adds nothing)."""

    total: int
    funding: int | None
    open_interest: int | None
    long_short_ratio: int | None
    liquidations: int | None

    def points(self) -> dict[str, int | None]:
        """Return the points by component, in the order in which they are told."""
        return {
            "funding": self.funding,
            "open_interest": self.open_interest,
            "long_short_ratio": self.long_short_ratio,
            "liquidations": self.liquidations,
        }

    def raised_by(self) -> tuple[tuple[str, int], ...]:
        """Return the components that add anything, in words for people, with their points."""
        return tuple((_COMPONENT_WORDS[name], value) for name, value in self.points().items() if value)


_COMPONENT_WORDS = {
    "funding": "funding",
    "open_interest": "open interest",
    "long_short_ratio": "long/short ratio",
    "liquidations": "liquidations",
}


class CascadeScore(msgspec.Struct, frozen=True, gc=False):
    """Cascade Score of one position side.

    Attributes:
        score: 0…10; ``None`` when no component has an input.
        dominance: 0…1.
        components: x of every component present, each 0…1.
        missing: Names of components without input; the others' weights were rescaled.
    """

    score: float | None
    dominance: float
    components: dict[str, float]
    missing: tuple[str, ...]


class Score(msgspec.Struct, frozen=True, gc=False):
    """All that was known of an asset at ``cause``'s receive time. ``None`` is "not known", never zero.

    Attributes:
        missing_inputs: Names of what the score is without, wholly or, as ``liquidations:okx``, in part.
        liquidations_are_floors: Some venue's liquidations of the last five minutes are missing: sums may be higher in truth,
            and what is computed from them is as certain as they are.
    """

    cause: Cause
    asset: str
    windows: LiquidationWindows | None
    derivatives: DerivativesReading | None
    pressure: Pressure | None
    miners: MinerDay | None
    risk: AbsoluteRisk
    cascade_long: CascadeScore
    cascade_short: CascadeScore
    severity: Severity
    pressure_waived: bool
    missing_inputs: tuple[str, ...]
    parameter_version: str
    liquidations_are_floors: bool = False


class AlertState(str, enum.Enum):
    """Of an alert."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertChange(msgspec.Struct, frozen=True, gc=False):
    """An asset's alert rose, fell or cleared: one per change, not one per tick."""

    cause: Cause
    asset: str
    severity: Severity
    previous_severity: Severity
    state: AlertState
    reason: str
    score_sequence: int
    risk: int
    pressure: int | None
