"""Fan the clock and slow data out from the partition to its assets, so that the cost is per active asset, not per symbol.

The law: an asset that is active has been sent the newest pressure and miner day, and what can be seen of liquidations; it gets
a tick in every second of its clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from market.events import AssetMiners, AssetPressure, AssetTick, Derivatives, Liquidation, MinerDay, Pressure
from market.feeds import AssetFeeds, LiquidationFeeds
from market.parameters import Parameters
from market.raw import Cause, Tick
from operators.machine import Handler
from operators.pace import TICK_EVERY_US, is_due


class _State(msgspec.Struct, array_like=True):
    """All that is saved.

    Attributes:
        active: Receive time of the newest event, by asset.
        ticked_us: Receive time of the newest tick.
        feeds: Venues whose liquidations are missing, and whether any can be seen, as last sent.
    """

    active: dict[str, int] = msgspec.field(default_factory=dict)
    pressure: Pressure | None = None
    miners: MinerDay | None = None
    ticked_us: int | None = None
    feeds: tuple[tuple[str, ...], bool] | None = None


_STATE = msgspec.msgpack.Decoder(_State)


class Heartbeats:
    """Know which assets are active, and pass everything on.

    An asset is active from an event of its own until a tick more than ``active_us`` after the last one; a watched asset from
    the first tick on, for ever. In a tick's place come the tick and one AssetTick per active asset whose clock has begun a new
    second since the tick before, by name (see :mod:`operators.pace`). Pressure goes to every active asset as it comes; so does
    a miner day, unless a later day is known, and so does what can be seen of liquidations, when that changes what scores say.
    An asset that becomes active is sent the newest of the first two after the event that made it so, and of the last before
    it, since a liquidation is scored at once.

    Bound: ``max_assets``, besides the watched ones; beyond it the one that has been quiet for longest is dropped.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        saved = _State() if state is None else _STATE.decode(cast("bytes", state))
        self._active_us = parameters.watch.active_us
        self._watched = frozenset(parameters.watch.watched_assets)
        self._max_active = parameters.watch.max_assets + len(self._watched)
        self._active = saved.active
        self._pressure = saved.pressure
        self._miners = saved.miners
        self._ticked_us = saved.ticked_us
        self._feeds = saved.feeds

    def handlers(self) -> Mapping[type, Handler]:
        """Own what shows that an asset is active, what is fanned out, and ticks."""
        return {
            Liquidation: self.on_asset_event,
            Derivatives: self.on_asset_event,
            Tick: self.on_tick,
            Pressure: self.on_pressure,
            MinerDay: self.on_miner_day,
            LiquidationFeeds: self.on_feeds,
        }

    def on_asset_event(self, event: Liquidation | Derivatives) -> Iterable[object]:
        """Note that the asset is active; send it what it has to know if it was not."""
        asset = event.asset
        active = self._active
        if asset in active:
            active[asset] = event.cause.receive_time_us
            return (event,)
        others = self._activate(asset, event.cause)
        return (*self._tell_feeds(event.cause, (asset,)), event, *others)

    def on_tick(self, tick: Tick) -> Iterable[object]:
        """Hand the tick to the active assets that are due for one; those that have been quiet for too long are dropped."""
        cause = tick.cause
        now_us = cause.receive_time_us
        outputs: list[object] = [tick]
        for asset in sorted(self._watched):
            if asset not in self._active:
                outputs += [*self._tell_feeds(cause, (asset,)), *self._activate(asset, cause)]
            self._active[asset] = now_us
        ticked_us = now_us - TICK_EVERY_US if self._ticked_us is None else self._ticked_us
        self._ticked_us = now_us
        quiet_us = now_us - self._active_us
        for asset in sorted([asset for asset in self._active if is_due(asset, now_us, ticked_us)]):
            if self._active[asset] < quiet_us:
                del self._active[asset]
            else:
                outputs.append(AssetTick(cause, asset))
        return outputs

    def on_pressure(self, pressure: Pressure) -> Iterable[object]:
        """Remember it and send it to every active asset."""
        self._pressure = pressure
        return [pressure, *(AssetPressure(pressure.cause, asset, pressure) for asset in sorted(self._active))]

    def on_miner_day(self, miners: MinerDay) -> Iterable[object]:
        """Remember the latest day, its newest version, and send it to every active asset."""
        if self._miners is not None and miners.day < self._miners.day:
            return (miners,)
        self._miners = miners
        return [miners, *(AssetMiners(miners.cause, asset, miners) for asset in sorted(self._active))]

    def on_feeds(self, feeds: LiquidationFeeds) -> Iterable[object]:
        """Send every active asset what changed of its sums' worth; when and why is not theirs."""
        before, self._feeds = self._feeds, (feeds.missing, feeds.is_any_seeing)
        return (feeds,) if before == self._feeds else (feeds, *self._tell_feeds(feeds.cause, sorted(self._active)))

    def snapshot(self) -> object:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(_State(self._active, self._pressure, self._miners, self._ticked_us, self._feeds))

    def is_idle(self) -> bool:
        """Never: assets still to come want the newest pressure and miner day."""
        return False

    def _tell_feeds(self, cause: Cause, assets: Iterable[str]) -> list[AssetFeeds]:
        return [] if self._feeds is None else [AssetFeeds(cause, asset, *self._feeds) for asset in assets]

    def _activate(self, asset: str, cause: Cause) -> list[object]:
        """Take the asset in, make room, and return what it has to know."""
        active = self._active
        active[asset] = cause.receive_time_us
        if len(active) > self._max_active:
            unwatched = (name for name in active if name not in self._watched)
            del active[min(unwatched, key=active.__getitem__)]
        outputs: list[object] = []
        if self._pressure is not None:
            outputs.append(AssetPressure(cause, asset, self._pressure))
        if self._miners is not None:
            outputs.append(AssetMiners(cause, asset, self._miners))
        return outputs
