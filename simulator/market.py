"""A seeded market in steps of 20 ms: prices, resting orders, leveraged positions, liquidations.

The cascade is not scripted. A position whose liquidation price the mark price reaches is closed by a market order; the order
eats resting orders and moves the price, for good in part; makers withdraw while the price runs; arbitrage carries the move to
the other venues; the mark price follows and reaches the next positions.

Everything is drawn from one generator, so the same seed, scenario and number of steps give the same liquidations. Prices are
logarithms inside; what leaves is integer ticks and lots.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.instruments import ASSETS, Instrument
from simulator.positions import LONG, SHORT, SIDES, Floats, Integers, Positions
from simulator.scenarios import Scenario, Volley

STEP_MS = 20
_STEP_S = STEP_MS / 1000

# The model's constants are choices: such that the scenarios keep what their tests promise, whatever the seed.
_PERMANENT = 0.55  # share of an order's impact that stays
_REFILL_S = 8.0  # eaten orders are replaced in this time
_ARBITRAGE_S = 1.0  # a difference between venues vanishes in this time
_WORK_S = 10.0  # a venue's liquidation engine works its orders off in this time
_MARK_S = 1.8  # the mark price follows the mid price in this time
_INDEX_S = 2.0  # the index price follows the fair price in this time
_STRESS_S = 12.0  # how long makers remember a move
_STRESS_HALVES = 0.006  # log price moved within that time at which makers show half their orders
_COMMON = 0.7  # share of the market factor in an asset's noise

_MASS = 3.3  # leveraged longs within reach at fuel 1.0, as a multiple of the orders within 1 %
_NEAREST, _FARTHEST = 0.006, 0.04  # log distance from the mark price to a position's liquidation price
_FORGET_BEYOND = 0.07  # positions farther away than this have added margin or left
_FILL_S = 40.0  # new positions replace lost ones in this time
_CHURN = 0.04  # share of positions closed by their owners between two visits
_SIZE_SPREAD = 1.3  # standard deviation of a size's logarithm
_LARGEST = 60.0  # position, in medians
_TRICKLE = 0.16  # careless positions opened per visit, instrument and side
_CARELESS = 0.0008  # mean log distance of a careless position to its liquidation price
_NEAREST_CARELESS = 0.00005
_VISITS_BEFORE_START = 10  # whose careless positions are there from the first step
_BACKGROUND = 30.0  # hedged open interest, as a multiple of the orders within 1 %
_ACCOUNTS = 0.45  # accounts of that background per side, as a share of the positions at fuel 1.0
_VOLLEY_WIDTH = 0.002  # log distance within which a volley's liquidation prices lie around the mark price
_MAINTENANCE = 0.005  # of the notional: what is left of the margin when a position is liquidated
_NOTHING = (np.empty(0), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Liquidation:
    """One position closed by the venue.

    Attributes:
        step: In which step of the market.
        position_side: The side that was open.
        lots: Quantity in lots.
        bankruptcy_ticks: Price at which the position's margin is gone, in ticks.
        average_units: Mean fill price, in the last digit the venue prints.
        last_fill_lots: Size of the last fill.
    """

    step: int
    instrument: Instrument
    position_side: str
    lots: int
    bankruptcy_ticks: int
    average_units: int
    last_fill_lots: int


class Market:
    """Every instrument's price, book and positions."""

    def __init__(self, instruments: Sequence[Instrument], scenario: Scenario, seed: int, *, has_feedback: bool = True) -> None:
        """Set the market up at rest.

        Args:
            instruments: All of them; the order matters for what a seed gives.
            scenario: What happens.
            seed: Of the one generator.
            has_feedback: False: liquidations move no price (to see what the shock alone would do).
        """
        self.instruments = tuple(instruments)
        self.scenario = scenario
        self.steps = 0
        self.is_frozen = False
        self._has_feedback = has_feedback
        self._random = np.random.default_rng(seed)
        self._set_up_assets()
        self._set_up_instruments()
        self._sides = {side: [Positions() for _ in self.instruments] for side in SIDES}
        self._nearest = np.full((2, len(self.instruments)), -np.inf)
        self._backlog = np.zeros(len(self.instruments))  # USD still to be traded by the venues' liquidation engines
        self._taken_keys: set[tuple[int, str, int, int]] = set()
        for index in range(len(self.instruments)):
            for row in range(len(SIDES)):
                self._renew(index, row, share=1.0, visits=_VISITS_BEFORE_START)

    def _set_up_assets(self) -> None:
        self._asset_index = {asset.name: number for number, asset in enumerate(ASSETS)}
        self._home = np.log([asset.price for asset in ASSETS])
        self._fair = self._home.copy()
        self._index = self._home.copy()
        self._trail = self._home.copy()
        self._noise_scale = np.array([asset.volatility for asset in ASSETS]) * math.sqrt(_STEP_S)
        self._beta = np.array([asset.beta for asset in ASSETS])

    def _set_up_instruments(self) -> None:
        self._asset_of = np.array([self._asset_index[instrument.asset] for instrument in self.instruments])
        weights = np.array([instrument.weight for instrument in self.instruments])
        weights /= np.bincount(self._asset_of, weights)[self._asset_of]
        one_percent = np.array([asset.depth_usd for asset in ASSETS])[self._asset_of] * weights
        self._depth = one_percent * 100.0  # USD per unit of log price, one side
        self._basis = np.array([instrument.premium + math.log(instrument.coins_per_base) for instrument in self.instruments])
        self._imbalance = np.zeros(len(self.instruments))  # USD; negative: bids were eaten
        self._mid = self._fair[self._asset_of] + self._basis
        self._mark = self._mid.copy()
        self._mass_usd = one_percent * _MASS
        self._targets: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        self._ticks = [float(instrument.tick) for instrument in self.instruments]
        self._faces = [float(instrument.lot * instrument.contract_size) for instrument in self.instruments]  # of one lot
        self._background_lots = np.array(
            [round(usd * _BACKGROUND / self._lot_usd(index)) for index, usd in enumerate(one_percent)]
        )

    # What the venues' REST interfaces read.

    def mark_price(self, index: int) -> float:
        """Return the instrument's mark price in its own unit."""
        return math.exp(self._mark[index])

    def mid_price(self, index: int) -> float:
        """Return the middle between best bid and best ask."""
        return math.exp(self._mid[index])

    def index_price(self, index: int) -> float:
        """Return the spot price in the instrument's own unit."""
        coins = self.instruments[index].coins_per_base
        return math.exp(self._index[self._asset_of[index]]) * coins

    def open_interest_lots(self, index: int) -> int:
        """Return open contracts, one side, in lots: the leveraged positions of both sides and the hedged background."""
        leveraged = sum(self._sides[side][index].total_lots for side in SIDES)
        return leveraged + int(self._background_lots[index])

    def long_short_ratio(self, index: int) -> float:
        """Return accounts that are long per account that is short."""
        asset = ASSETS[self._asset_of[index]]
        passive = _ACCOUNTS * self._mass_usd[index] / (asset.position_usd * math.exp(_SIZE_SPREAD**2 / 2)) + 1
        return float((len(self._sides[LONG][index]) + passive) / (len(self._sides[SHORT][index]) + passive))

    def shown_depth(self, index: int) -> tuple[float, float]:
        """Return USD of bids and asks per unit of log price: less while the price runs, and less where orders were eaten."""
        depth = self._depth[index] * self._thinness()[self._asset_of[index]]
        eaten = math.tanh(self._imbalance[index] / (depth * 0.01))
        return float(depth * (1 + 0.6 * min(eaten, 0.0))), float(depth * (1 - 0.6 * max(eaten, 0.0)))

    # The step.

    def step(self) -> list[Liquidation]:
        """Advance by 20 ms.

        Returns:
            The positions liquidated, in order; none while frozen.
        """
        self.steps += 1
        self._taken_keys.clear()
        self._move()
        liquidations = [] if self.is_frozen else [*self._volley(), *self._cross()]
        turn, row = divmod(self.steps % (2 * len(self.instruments)), 2)
        self._renew(turn, row, share=2 * len(self.instruments) * _STEP_S / _FILL_S, visits=1)
        return liquidations

    def _move(self) -> None:
        """Let orders, makers, arbitrage and noise move the prices."""
        seconds = self.steps * _STEP_S
        asset_of, count = self._asset_of, len(ASSETS)
        depth = self._depth * self._thinness()[asset_of]
        worked = self._backlog * (_STEP_S / _WORK_S)
        self._backlog -= worked
        flow = worked + self._beta[asset_of] * (self.scenario.pressure(seconds) * _STEP_S) * depth
        asset_depth = np.bincount(asset_of, depth, count)

        drawn = self._random.standard_normal(count + 1)
        noise = self._noise_scale * (_COMMON * drawn[0] + math.sqrt(1 - _COMMON**2) * drawn[1:])
        home = (self._home - self._fair) * (self.scenario.pull(seconds) * _STEP_S)
        self._fair += _PERMANENT * np.bincount(asset_of, flow, count) / asset_depth + noise + home
        self._trail += (self._fair - self._trail) * (_STEP_S / _STRESS_S)

        self._imbalance = (self._imbalance + (1 - _PERMANENT) * flow) * (1 - _STEP_S / _REFILL_S)
        even = (np.bincount(asset_of, self._imbalance, count) / asset_depth)[asset_of] * depth
        self._imbalance += (even - self._imbalance) * (_STEP_S / _ARBITRAGE_S)

        self._mid = self._fair[asset_of] + self._basis + self._imbalance / depth
        self._mark += (self._mid - self._mark) * (_STEP_S / _MARK_S)
        self._index += (self._fair - self._index) * (_STEP_S / _INDEX_S)

    def _thinness(self) -> Floats:
        """Return the share of their usual orders that makers show, per asset."""
        return np.asarray(np.maximum(1 / (1 + np.abs(self._fair - self._trail) / _STRESS_HALVES), 0.35))

    def _cross(self) -> Iterator[Liquidation]:
        """Liquidate what the mark prices have reached."""
        for row, side in enumerate(SIDES):
            mark = self._mark if side == LONG else -self._mark
            for index in np.flatnonzero(mark <= self._nearest[row]):
                keys, lots = self._sides[side][index].take_crossed(float(mark[index]))
                self._nearest[row, index] = self._sides[side][index].nearest
                for key, quantity in zip(keys.tolist(), lots.tolist(), strict=True):
                    yield self._liquidate(int(index), side, quantity, key if side == LONG else -key)

    def _liquidate(self, index: int, side: str, lots: int, log_price: float) -> Liquidation:
        """Close a position whose liquidation price is ``log_price`` with a market order."""
        instrument = self.instruments[index]
        is_long = side == LONG
        away = -1 if is_long else 1
        tick = self._ticks[index]
        bankruptcy_ticks = max(1, round(math.exp(log_price + away * _MAINTENANCE) / tick))
        # Venues' events carry no identity: no two of one moment may look the same.
        while (index, side, lots, bankruptcy_ticks) in self._taken_keys:
            lots += 1
            self._background_lots[index] -= 1
        self._taken_keys.add((index, side, lots, bankruptcy_ticks))
        usd = lots * self._lot_usd(index)
        impact = usd / self._depth[index]
        filled = math.exp(self._mid[index] + away * min(impact / 2, 0.05))
        worst = bankruptcy_ticks * tick
        average = max(filled, worst) if is_long else min(filled, worst)
        if self._has_feedback:
            self._backlog[index] += away * usd
        return Liquidation(
            step=self.steps,
            instrument=instrument,
            position_side=side,
            lots=lots,
            bankruptcy_ticks=bankruptcy_ticks,
            average_units=max(1, round(average * 10**instrument.price_decimals)),
            last_fill_lots=max(1, int(lots * self._random.random())),
        )

    def crowd(self, venue: str, count: int) -> list[Liquidation]:
        """Liquidate so many longs of a venue at once, small ones, which move no price and take nothing from the story.

        No two look the same, so that nobody may take one for another's repeat.
        """
        indices = [index for index, instrument in enumerate(self.instruments) if instrument.venue == venue]
        marks = [self.mark_price(index) for index in indices]
        liquidations = []
        for number in range(count):
            turn, place = divmod(number, len(indices))
            index, mark, lots = indices[place], marks[place], turn + 1
            instrument = self.instruments[index]
            ticks = max(1, round(mark / self._ticks[index]))
            while (index, LONG, lots, ticks) in self._taken_keys:
                ticks += 1
            self._taken_keys.add((index, LONG, lots, ticks))
            units = max(1, round(mark * 10**instrument.price_decimals))
            liquidations.append(Liquidation(self.steps, instrument, LONG, lots, ticks, units, lots))
        return liquidations

    def _lot_usd(self, index: int) -> float:
        """Return what one lot is worth at the current mark price."""
        face = self._faces[index]
        return face if self.instruments[index].is_inverse else face * math.exp(self._mark[index])

    # Who trades.

    def _renew(self, index: int, row: int, *, share: float, visits: int) -> None:
        """Let owners close some positions and open others, of one side; ``share`` of what is missing comes back."""
        side = SIDES[row]
        positions = self._sides[side][index]
        mark = float(self._mark[index] if side == LONG else -self._mark[index])
        fuel = self.scenario.long_fuel if side == LONG else self.scenario.short_fuel
        lot_usd = self._lot_usd(index)
        missing = max(fuel * self._mass_usd[index] - positions.total_lots * lot_usd, 0.0)
        lots_before = positions.total_lots
        positions.close(beyond=mark - _FORGET_BEYOND, share=self._random.random(len(positions)), churn=_CHURN)
        moved = (lots_before - positions.total_lots) * lot_usd  # who closes opens another
        positions.open(*self._openings(index, mark, missing * min(share, 1.0) + moved, visits))
        self._nearest[row, index] = positions.nearest

    def _openings(self, index: int, mark: float, usd: float, visits: int) -> tuple[Floats, Integers]:
        """Return new positions worth about ``usd``, and now and then a careless one close to its liquidation."""
        median = ASSETS[self._asset_of[index]].position_usd
        mean = median * math.exp(_SIZE_SPREAD**2 / 2)
        count = int(self._random.poisson(usd / mean))
        careless = int(self._random.poisson(_TRICKLE * visits)) if self.scenario.has_trickle else 0
        if count + careless == 0:
            return _NOTHING
        distance = np.concatenate(
            (
                _NEAREST + (_FARTHEST - _NEAREST) * self._random.beta(1.6, 2.4, count),
                _NEAREST_CARELESS + self._random.exponential(_CARELESS, careless),
            )
        )
        sizes = np.minimum(np.exp(_SIZE_SPREAD * self._random.standard_normal(count + careless)), _LARGEST) * median
        sizes[count:] = np.minimum(sizes[count:] * 0.4, 20 * median)
        lots = np.maximum(np.rint(sizes / self._lot_usd(index)), 1).astype(np.int64)
        return mark - distance, lots

    def _volley(self) -> Iterator[Liquidation]:
        """Liquidate what the scenario demands in this step."""
        volley = self.scenario.volley
        if volley is None:
            return
        now_ms = round((self.scenario.phase(self.steps * _STEP_S) - volley.at) * 1000)
        first, last = (_fired(volley, moment_ms) for moment_ms in (now_ms, now_ms + STEP_MS))
        if first == last:
            return
        count = last - first
        names, shares = zip(*volley.venue_shares, strict=True)
        venues = self._random.choice(len(names), count, p=shares)
        draws = self._random.random((3, count)).tolist()
        sizes = (volley.median_usd * np.exp(volley.spread * self._random.standard_normal(count))).tolist()
        for venue, pick, turn, place, usd in zip(venues, *draws, sizes, strict=True):
            index = self._target(names[venue], volley.symbol, pick)
            side = LONG if turn < volley.long_share else SHORT
            lots = max(1, round(usd / self._lot_usd(index)))
            self._background_lots[index] = max(0, self._background_lots[index] - lots)
            yield self._liquidate(index, side, lots, float(self._mark[index]) + _VOLLEY_WIDTH * (2 * place - 1))

    def _target(self, venue: str, symbol: str, pick: float) -> int:
        """Choose one of the venue's instruments, or the one named; ``pick`` in [0, 1) decides, the deeper the likelier."""
        if (venue, symbol) not in self._targets:
            indices = [
                index
                for index, instrument in enumerate(self.instruments)
                if instrument.venue == venue and symbol in {"", instrument.symbol}
            ]
            self._targets[venue, symbol] = indices, np.cumsum(self._depth[indices]).tolist()
        indices, edges = self._targets[venue, symbol]
        return indices[bisect.bisect_right(edges, pick * edges[-1])]


def _fired(volley: Volley, elapsed_ms: int) -> int:
    """Count the volley's liquidations in its first milliseconds."""
    lasts_ms = round(volley.lasts * 1000)
    return volley.count * min(max(elapsed_ms, 0), lasts_ms) // lasts_ms
