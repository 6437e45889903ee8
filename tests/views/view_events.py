"""Builders of events for the tests of the views: each defaults everything but what a test is about."""

from __future__ import annotations

from market.events import DifficultyFit, Gap, Liquidation, MinerDay, MinerStatus, Pressure
from market.feeds import FeedSight, LiquidationFeeds, Sight
from market.raw import Cause, Completeness, DeadLetter, FeedState, FeedStatus, PositionSide
from market.readings import (
    WINDOWS_S,
    AbsoluteRisk,
    AlertChange,
    AlertState,
    CascadePhase,
    CascadeScore,
    CascadeTransition,
    DerivativesReading,
    LiquidationWindows,
    Score,
    Severity,
    SideWindows,
)

SECOND = 1_000_000
USD = 1_000_000
NOON_US = 1_763_726_400 * SECOND  # 2025-11-21 12:00:00 UTC


def at(seconds):
    return NOON_US + round(seconds * SECOND)


def cause(at_s=0.0, sequence=1):
    return Cause("0", sequence, at(at_s))


def liquidation(at_s=0.0, venue="okx", *, delay_s=0.25):
    return Liquidation(
        cause=cause(at_s),
        venue=venue,
        symbol="BTC-USDT-SWAP",
        asset="BTC",
        position_side=PositionSide.LONG,
        price=100_000.0,
        base_quantity=0.01,
        notional_micros=1_000 * USD,
        completeness=Completeness.SAMPLED,
        event_time_us=at(at_s - delay_s),
    )


def side_windows(usd=0):
    micros = usd * USD
    sums = (micros,) * len(WINDOWS_S)
    counts = (int(usd > 0),) * len(WINDOWS_S)
    return SideWindows(sums, counts, sums, {"okx": micros} if usd else {}, micros, micros, late_count=0)


def windows(*, long_usd=0, short_usd=0):
    return LiquidationWindows(cause(), "BTC", side_windows(long_usd), side_windows(short_usd))


def reading(**values):
    known = {
        "mark_price": 97_123.4,
        "price_changes_percent": (-1.5, -2.5, None),
        "open_interest_base": 100_000.0,
        "open_interest_usd": 9.7e9,
        "open_interest_changes_percent": (6.25, 7.0, None),
        "venue_open_interest_changes_percent": {"okx": (6.25, 7.0, None)},
        "funding_rate_8h": 0.000125,
        "funding_changes": (0.0, 0.0, None),
        "venue_funding_changes": {"okx": (0.0, 0.0, None)},
        "long_short_ratio": 2.4,
        "missing": {},
        "oldest_input_time_us": at(-20),
    }
    return DerivativesReading(cause(), "BTC", **{**known, **values})


def pressure(points=-42):
    return Pressure(cause(), points, 100 * USD, 16 * USD, 0, 0, 100 * USD, 16 * USD, 0, 0, at(-14_400), at(-12))


def miner_day(multiple=1.37):
    fit = DifficultyFit(
        "expanding", 10.25, 0.525, 0.944, "2010-07-18", "2025-11-21", 5_600, 70_000.0, multiple, MinerStatus.WATCH, 0.5
    )
    return MinerDay(cause(), "2025-11-21", 97_000.0, 1.5e14, None, 38.2, {"15": 50_000.0}, {"expanding": fit}, is_final=False)


def cascade_score(score=None):
    return CascadeScore(score, 0.0, {}, ())


def score(asset="BTC", at_s=0.0, *, risk=0, severity=Severity.NONE, cascades=(None, None), **inputs):
    """Nothing is known of the asset unless given."""
    unknown = {"windows": None, "derivatives": None, "pressure": None, "miners": None, "missing_inputs": ()}
    return Score(
        cause=cause(at_s),
        asset=asset,
        risk=AbsoluteRisk(risk, None, None, None, risk),
        cascade_long=cascade_score(cascades[0]),
        cascade_short=cascade_score(cascades[1]),
        severity=severity,
        pressure_waived="pressure" not in inputs,
        parameter_version="0123456789ab",
        **{**unknown, **inputs},
    )


def cascade(phase=CascadePhase.BEGAN, at_s=0.0):
    return CascadeTransition(
        cause=cause(at_s),
        cascade_id="BTC-LONG-0-1",
        asset="BTC",
        position_side=PositionSide.LONG,
        phase=phase,
        began_time_us=at(at_s),
        window_micros=6_250_000 * USD,
        peak_micros=6_250_000 * USD,
        total_micros=7_000_000 * USD,
        total_count=12,
        venues=("bybit-linear", "okx"),
    )


def alert(at_s=0.0):
    return AlertChange(
        cause=cause(at_s),
        asset="BTC",
        severity=Severity.WARNING,
        previous_severity=Severity.NONE,
        state=AlertState.FIRING,
        reason="BTC risk 55 (funding 30, liquidations 20)",
        score_sequence=1,
        risk=55,
        pressure=None,
    )


def gap(at_s=0.0, seconds=4.5):
    return Gap(cause(at_s), "okx", "okx/liquidations", at(at_s - seconds), at(at_s), "connection lost")


def status(state=FeedState.CONNECTED, *, feed="okx/liquidations", connection="1", reason="subscribed", at_s=0.0):
    return FeedStatus(cause(at_s), feed, connection, state, reason)


def feeds(at_s=0.0, reason="silent: connected, and …", **sights):
    """What can be seen of these venues since ``at_s``."""
    found = {venue: FeedSight(sight, at(at_s), "" if sight is Sight.SEEING else reason) for venue, sight in sights.items()}
    return LiquidationFeeds(cause(at_s), found, (), {})


def dead_letter(venue="okx", error="UnknownSymbolError"):
    return DeadLetter(cause(), f"{venue}/liquidations", venue, error, "why", b"{}")
