"""Every number that a score depends on, with the default and where it comes from.

Settings build these; operators receive them; no saved state contains them, so that a changed threshold takes effect on resume.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ContractLimits:
    """When a number from a venue is absurd: a dead letter, not an event.

    Attributes:
        max_notional_usd: Of one liquidation. The largest single one reported to date is about 0.2 billion USD (2025-10-10).
        max_clock_skew_us: An event time further in the future than this is refused; nearer ones are clamped and counted.
    """

    max_notional_usd: int = 10_000_000_000
    max_clock_skew_us: int = 60_000_000


@dataclass(frozen=True)
class WindowParameters:
    """Rolling liquidation windows (design §1).

    Attributes:
        allowed_lateness_us: Received later than this after its event time, a liquidation enters no window (only the table).
        emit_interval_us: Full window readings, and so scores, come at most once per asset in this time.
    """

    allowed_lateness_us: int = 10_000_000
    emit_interval_us: int = 1_000_000


@dataclass(frozen=True)
class DuplicateParameters:
    """Memory of events already seen: as long as a venue may repeat itself after a reconnect, bounded in number.

    Attributes:
        horizon_us: A repeat received so long after the first is recognised.
        max_keys: Events remembered; beyond it the oldest are forgotten first.
    """

    horizon_us: int = 600_000_000
    max_keys: int = 200_000


@dataclass(frozen=True)
class DeltaParameters:
    """Open-interest, funding and price deltas.

    Attributes:
        sample_us: For windows up to an hour one sample per venue is kept for each such interval.
        long_sample_us: For longer ones.
        max_age_us: An input older than this is missing.
    """

    sample_us: int = 60_000_000
    long_sample_us: int = 600_000_000
    max_age_us: int = 900_000_000


@dataclass(frozen=True)
class CascadeThresholds:
    """When one side's liquidations are a cascade (scores §4, absolute threshold).

    Attributes:
        window_usd: The 90-second sum of that side must be above this.
        dominance_share: At least this share of both sides' sum.
        min_count: At least so many events in 90 s.
        min_venues: From at least so many venues in 90 s.
        end_fraction: It ends when the sum is zero or below this fraction of ``window_usd``.
    """

    window_usd: int = 5_000_000
    dominance_share: float = 0.65
    min_count: int = 5
    min_venues: int = 2
    end_fraction: float = 0.1


@dataclass(frozen=True)
class CascadeScoreParameters:
    """Cascade Score (scores §5).

    Attributes:
        weights: Per component; those without an input drop out and the others are rescaled.
        floor_usd: Below this 90-second sum a side scores zero: the floor that the formula sets for ``size``.
    """

    weights: dict[str, float] = field(
        default_factory=lambda: {
            "size": 0.30,
            "speed": 0.15,
            "self_excitation": 0.20,
            "breadth": 0.10,
            "fuel": 0.15,
            "crowding": 0.10,
        },
    )
    floor_usd: int = 250_000


@dataclass(frozen=True)
class PressureParameters:
    """Stablecoin Pressure (scores §2).

    Attributes:
        lookback_us: Four hours.
        minimum_usd: Smaller transfers do not count.
        flow_unit_usd: (outflow − inflow) per point.
        supply_unit_usd: (mint − burn) per point.
        inflow_is_bearish: The disputed sign; False turns the flow term round.
        max_age_us: Without a new block for longer, pressure is not known.
        max_transfers: Counted transfers remembered; beyond it the oldest are folded away early and pressure is not known.
    """

    lookback_us: int = 14_400_000_000
    minimum_usd: int = 1_000_000
    flow_unit_usd: int = 2_000_000
    supply_unit_usd: int = 10_000_000
    inflow_is_bearish: bool = True
    max_age_us: int = 900_000_000
    max_transfers: int = 50_000


@dataclass(frozen=True)
class SeverityThresholds:
    """Severity (scores §3); all comparisons are strict.

    Attributes:
        critical_risk: Critical needs a Liquidation Risk above this …
        critical_pressure: … and a Stablecoin Pressure below this.
        warning_risk: Warning needs a risk above this …
        warning_pressure: … and a pressure below this.
        info_risk: Info needs a risk above this.
    """

    critical_risk: int = 70
    critical_pressure: int = -30
    warning_risk: int = 50
    warning_pressure: int = 0
    info_risk: int = 30


@dataclass(frozen=True)
class AlertParameters:
    """From severity to alerts (scores §3).

    Attributes:
        clear_below_points: An alert falls only when risk is so far below its threshold.
        minimum_hold_us: It stays at least so long.
        cooldown_us: After it cleared, the same asset does not rise again to that severity or a lower one for so long.
    """

    clear_below_points: int = 5
    minimum_hold_us: int = 60_000_000
    cooldown_us: int = 300_000_000


@dataclass(frozen=True)
class MinerParameters:
    """Difficulty Multiple and hashprice (scores §6).

    Attributes:
        fleet_efficiencies_j_per_th: Fleets for which a break-even price is published.
        electricity_usd_per_kwh: Their electricity.
        max_age_us: A miner day older than this is missing from scores.
    """

    fleet_efficiencies_j_per_th: tuple[float, ...] = (15.0, 20.0, 30.0, 40.0)
    electricity_usd_per_kwh: float = 0.07
    max_age_us: int = 172_800_000_000


@dataclass(frozen=True)
class SilenceParameters:
    """When a feed that is connected and brings no liquidation counts as silent, while two other venues bring some (design §5).

    Attributes:
        min_quiet_us: No shorter quiet is silence. Longer than any that a dozen liquidations of a busy minute would teach.
        half_life_us: Half of what a feed's longest quiet taught is forgotten in this time. Twice that quiet is allowed: so
            what was usual a week ago, on the same day of the week, is no silence.
        min_events: A feed's usual quiet is known when it has brought so many liquidations …
        learn_us: … over at least this time. Before, only a quiet of this length can be silence, …
        min_other_events: … and only if the other venues have brought so many in it.
    """

    min_quiet_us: int = 120_000_000
    half_life_us: int = 604_800_000_000
    min_events: int = 20
    learn_us: int = 3_600_000_000
    min_other_events: int = 1_000


@dataclass(frozen=True)
class WatchParameters:
    """Which assets are heard of between liquidations.

    Attributes:
        watched_assets: Polled for derivatives and depth, and scored also without liquidations.
        active_us: An asset gets ticks so long after its last event: the longest window and some slack.
        max_assets: Assets remembered at once; beyond it the longest quiet one is dropped.
    """

    watched_assets: tuple[str, ...] = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")
    active_us: int = 3_660_000_000
    max_assets: int = 5_000


@dataclass(frozen=True)
class Parameters:
    """All of them."""

    contracts: ContractLimits = field(default_factory=ContractLimits)
    windows: WindowParameters = field(default_factory=WindowParameters)
    duplicates: DuplicateParameters = field(default_factory=DuplicateParameters)
    deltas: DeltaParameters = field(default_factory=DeltaParameters)
    cascade: CascadeThresholds = field(default_factory=CascadeThresholds)
    cascade_score: CascadeScoreParameters = field(default_factory=CascadeScoreParameters)
    pressure: PressureParameters = field(default_factory=PressureParameters)
    severity: SeverityThresholds = field(default_factory=SeverityThresholds)
    alerts: AlertParameters = field(default_factory=AlertParameters)
    miners: MinerParameters = field(default_factory=MinerParameters)
    watch: WatchParameters = field(default_factory=WatchParameters)
    silence: SilenceParameters = field(default_factory=SilenceParameters)

    @property
    def version(self) -> str:
        """Twelve hex digits that change with any parameter; every score row carries them."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
