"""What happens to the market, and when. A scenario is a pure function of simulated time: it draws no random numbers.

Pressure is what an aggressive trader adds to the order flow, as the log price per second that the same orders would move
if nobody reacted. Everything else, the cascade above all, is the market's own doing.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.instruments import BINANCE, BYBIT_INVERSE, BYBIT_LINEAR, OKX

_IDLE_PULL = 1 / 240


@dataclass(frozen=True)
class Window:
    """A stretch of a scenario's cycle, in seconds; the end is excluded."""

    begin: float
    end: float

    def __contains__(self, seconds: float) -> bool:
        """Whether the moment lies within."""
        return self.begin <= seconds < self.end


@dataclass(frozen=True)
class Volley:
    """Liquidations that happen because the scenario says so, spread evenly over a time.

    Attributes:
        at: Second of the cycle at which it begins.
        lasts: Seconds.
        count: Liquidations in all.
        long_share: Share of longs.
        median_usd: Size of a liquidation; with ``spread`` 0 each has this size.
        spread: Standard deviation of the size's logarithm.
        venue_shares: How many of them each venue gets.
        symbol: Only this instrument; any when empty.
    """

    at: float
    lasts: float
    count: int
    long_share: float
    median_usd: float
    spread: float
    venue_shares: tuple[tuple[str, float], ...]
    symbol: str = ""


@dataclass(frozen=True)
class Scenario:
    """One market's story.

    Attributes:
        long_fuel: Mass of leveraged longs near the price, 1.0 being enough for a cascade.
        short_fuel: The same for shorts.
        has_trickle: Whether small liquidations happen all the time.
        direction: −1 pushes the price down, +1 up.
        shock: When the aggressive trader trades; ``None`` when never.
        shock_speed: Log price per second.
        recovery: When buyers (or sellers) bring the price back.
        recovery_pull: Share of the way home per second in that time.
        cycle_seconds: The story repeats with this period; 0: it is told once.
    """

    name: str
    description: str
    long_fuel: float
    short_fuel: float
    has_trickle: bool = True
    direction: int = 0
    shock: Window | None = None
    shock_speed: float = 0.0
    recovery: Window | None = None
    recovery_pull: float = 0.0
    volley: Volley | None = None
    cycle_seconds: float = 0.0

    def phase(self, seconds: float) -> float:
        """Return the moment's place in the cycle."""
        return seconds % self.cycle_seconds if self.cycle_seconds else seconds

    def pressure(self, seconds: float) -> float:
        """Return the aggressive trader's pressure, in log price per second; negative when selling."""
        is_shock = self.shock is not None and self.phase(seconds) in self.shock
        return self.direction * self.shock_speed if is_shock else 0.0

    def pull(self, seconds: float) -> float:
        """Return the share of the way back to the first price that patient traders make good in a second."""
        is_recovery = self.recovery is not None and self.phase(seconds) in self.recovery
        return self.recovery_pull if is_recovery else _IDLE_PULL


_EVERYWHERE = ((BINANCE, 0.42), (BYBIT_LINEAR, 0.33), (BYBIT_INVERSE, 0.05), (OKX, 0.20))

_LONG_CASCADE = Scenario(
    name="long-cascade",
    description="calm for 15 s, then a shock sets off a cascade of longs that feeds on itself; repeats every 200 s",
    long_fuel=1.0,
    short_fuel=0.05,
    direction=-1,
    shock=Window(15.0, 22.0),
    shock_speed=0.0024,
    recovery=Window(65.0, 125.0),
    recovery_pull=1 / 35,
    cycle_seconds=200.0,
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="calm",
            description="a quiet market with a few small liquidations",
            long_fuel=0.25,
            short_fuel=0.2,
        ),
        _LONG_CASCADE,
        Scenario(
            name="short-squeeze",
            description="the mirror of long-cascade: shorts are liquidated on the way up",
            long_fuel=_LONG_CASCADE.short_fuel,
            short_fuel=_LONG_CASCADE.long_fuel,
            direction=1,
            shock=_LONG_CASCADE.shock,
            shock_speed=_LONG_CASCADE.shock_speed,
            recovery=_LONG_CASCADE.recovery,
            recovery_pull=_LONG_CASCADE.recovery_pull,
            cycle_seconds=_LONG_CASCADE.cycle_seconds,
        ),
        Scenario(
            name="burst",
            description="exactly 20,000 liquidations in one second, 10 s after the start and again every minute; no others",
            long_fuel=0.0,
            short_fuel=0.0,
            has_trickle=False,
            volley=Volley(10.0, 1.0, 20_000, 0.8, 600.0, 1.1, _EVERYWHERE),
            cycle_seconds=60.0,
        ),
        Scenario(
            name="single-print",
            description="one liquidation of 8 M USD on Binance 15 s after the start, with nothing following from it",
            has_trickle=False,  # five small ones on two venues beside it would make a cascade of it
            long_fuel=0.02,
            short_fuel=0.02,
            volley=Volley(15.0, 0.02, 1, 1.0, 8e6, 0.0, ((BINANCE, 1.0),), symbol="BTCUSDT"),
        ),
    )
}
DEFAULT_SCENARIO = _LONG_CASCADE.name
