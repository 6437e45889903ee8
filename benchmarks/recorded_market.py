"""A market in cascade, as frames in the venues' own formats: the load of every benchmark. Deterministic from its seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from connectors.sources.journal import FrameRow, Journal

START_US = 1_767_225_600_000_000  # 2026-01-01
_GROUP_FRAMES = 200
_TICK_US = 50_000


@dataclass(frozen=True)
class Load:
    """How much of what.

    Attributes:
        events: Liquidations in all.
        per_second: Of the market's own clock; with it come twenty ticks a second.
        assets: Spread over so many, heavy-tailed as markets are: the first has the most.
    """

    events: int
    per_second: int = 2_000
    assets: int = 60
    seed: int = 1


def write_journal(path: Path, load: Load) -> int:
    """Write the load as a journal; return the number of frames."""
    journal = Journal(path)
    rows: list[FrameRow] = []
    for row in frames(load):
        rows.append(row)
        if len(rows) == _GROUP_FRAMES:
            journal.append(rows)
            rows = []
    if rows:
        journal.append(rows)
    count = journal.next_sequence - 1
    journal.close()
    return count


def frames(load: Load) -> Iterator[FrameRow]:
    """Yield contracts, then liquidations with twenty ticks a second. Two in five events are Bybit's, in arrays of three."""
    chance = random.Random(load.seed)
    assets = [f"C{number}" for number in range(load.assets)]
    weights = [1 / (rank + 1) for rank in range(load.assets)]
    picks = chance.choices(range(load.assets), weights, k=100_003)
    yield from _contracts(assets)
    step_us = 1_000_000 // load.per_second
    sent, now_us, next_tick_us = 0, START_US, START_US + _TICK_US
    while sent < load.events:
        asset = assets[picks[sent % len(picks)]]
        is_long = chance.random() < 0.8
        if sent % 5 < 3:
            row = _binance(asset, is_long, now_us, chance) if sent % 5 < 2 else _okx(asset, is_long, now_us, chance)
            count = 1
        else:
            count = 3
            row = _bybit(asset, is_long, now_us, count, chance)
        yield row
        sent += count
        now_us += step_us * count
        while now_us >= next_tick_us:
            yield ("clock", b"", next_tick_us)
            next_tick_us += _TICK_US


def _contracts(assets: list[str]) -> Iterator[FrameRow]:
    binance = {
        "symbols": [
            {
                "symbol": f"{asset}USDT",
                "pair": f"{asset}USDT",
                "contractType": "PERPETUAL",
                "status": "TRADING",
                "baseAsset": asset,
                "quoteAsset": "USDT",
                "marginAsset": "USDT",
            }
            for asset in assets
        ]
    }
    bybit = {
        "retCode": 0,
        "retMsg": "OK",
        "result": {
            "category": "linear",
            "list": [
                {
                    "symbol": f"{asset}USDT",
                    "contractType": "LinearPerpetual",
                    "status": "Trading",
                    "baseCoin": asset,
                    "quoteCoin": "USDT",
                    "settleCoin": "USDT",
                    "fundingInterval": 480,
                }
                for asset in assets
            ],
            "nextPageCursor": "",
        },
        "retExtInfo": {},
        "time": START_US // 1000,
    }
    okx = {
        "code": "0",
        "msg": "",
        "data": [
            {
                "instId": f"{asset}-USDT-SWAP",
                "instType": "SWAP",
                "instFamily": f"{asset}-USDT",
                "uly": f"{asset}-USDT",
                "ctType": "linear",
                "ctVal": "0.1",
                "ctMult": "1",
                "ctValCcy": asset,
                "settleCcy": "USDT",
                "state": "live",
            }
            for asset in assets
        ],
    }
    for feed, body in (("binance-usdm/instruments", binance), ("bybit-linear/instruments", bybit), ("okx/instruments", okx)):
        yield (feed, json.dumps(body).encode(), START_US)


def _price(chance: random.Random) -> str:
    return f"{100 + chance.random() * 10:.2f}"


def _quantity(chance: random.Random) -> str:
    return f"{max(0.001, chance.lognormvariate(0, 1.5)):.3f}"  # one in five million would be 0.000, a dead letter


def _binance(asset: str, is_long: bool, now_us: int, chance: random.Random) -> FrameRow:
    quantity, price, time_ms = _quantity(chance), _price(chance), now_us // 1000
    text = (
        f'{{"e":"forceOrder","E":{time_ms},"o":{{"s":"{asset}USDT","S":"{"SELL" if is_long else "BUY"}","o":"LIMIT","f":"IOC",'
        f'"q":"{quantity}","p":"{price}","ap":"{price}","X":"FILLED","l":"{quantity}","z":"{quantity}","T":{time_ms - 900}}}}}'
    )
    return ("binance-usdm/liquidations", text.encode(), now_us)


def _okx(asset: str, is_long: bool, now_us: int, chance: random.Random) -> FrameRow:
    text = (
        '{"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[{"details":[{"bkLoss":"0",'
        f'"bkPx":"{_price(chance)}","ccy":"","posSide":"{"long" if is_long else "short"}",'
        f'"side":"{"sell" if is_long else "buy"}","sz":"{_quantity(chance)}","ts":"{now_us // 1000 - 300}"}}],'
        f'"instFamily":"{asset}-USDT","instId":"{asset}-USDT-SWAP","instType":"SWAP","uly":"{asset}-USDT"}}]}}'
    )
    return ("okx/liquidations", text.encode(), now_us)


def _bybit(asset: str, is_long: bool, now_us: int, count: int, chance: random.Random) -> FrameRow:
    side, time_ms = "Buy" if is_long else "Sell", now_us // 1000
    items = ",".join(
        f'{{"T":{time_ms - 400 + number},"s":"{asset}USDT","S":"{side}","v":"{_quantity(chance)}","p":"{_price(chance)}"}}'
        for number in range(count)
    )
    text = f'{{"topic":"allLiquidation.{asset}USDT","type":"snapshot","ts":{time_ms},"data":[{items}]}}'
    return ("bybit-linear/liquidations", text.encode(), now_us)
