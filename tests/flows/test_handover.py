"""What shards leave and what others make of it, in one process: the same rows as if nobody had ever changed places."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main
from flow_runs import instruments_frame, liquidation_frame, tick_frame

import flows.replay
from connectors.sinks.metrics import MetricsSink
from connectors.sources.frame import STATUS_FEED, Frame
from connectors.sources.inbox import StatusPayload
from connectors.sources.journal import FrameRow
from flows.cascade import Share, asset_machines, build, market_machines
from flows.handover import Chains, has_begun, inheritance, legacy, position, recovered
from flows.replay import ReplaySource
from flows.shard_rules import ShardsError
from market.exchanges import AddressBook
from market.parameters import CascadeThresholds, Parameters, SeverityThresholds
from market.raw import Cause, FeedState
from market.shards import WHOLE, Shard
from operators.inheritance import Inheritance

PARAMETERS = Parameters(
    cascade=CascadeThresholds(window_usd=100_000, min_count=2, min_venues=1), severity=SeverityThresholds(info_risk=5)
)
ADDRESSES = AddressBook(())
CHAINS = Chains.of(market_machines(PARAMETERS, ADDRESSES), asset_machines(PARAMETERS))
NOON_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


class DiedError(Exception):
    """The process, in the middle of an epoch."""


def status_frame(at_us: int, state: FeedState, feed: str = "bybit-linear/liquidations", connection: str = "1") -> FrameRow:
    return STATUS_FEED, msgspec.json.encode(StatusPayload(feed, connection, state, "closed")), at_us


def started(at_us: int) -> list[FrameRow]:
    """What a process says when it starts."""
    return [
        status_frame(at_us, FeedState.STARTED, "process", "process"),
        status_frame(at_us, FeedState.EXPECTED, connection=""),
        instruments_frame(at_us),
        status_frame(at_us, FeedState.CONNECTED),
    ]


def recording(seconds: int) -> list[FrameRow]:
    """Longs of BTC and shorts of ETH in a cascade; ticks; a frame that nobody can read; a connection lost, a new process."""
    rows = started(NOON_US)
    for second in range(seconds):
        at_us = NOON_US + second * SECOND_US
        if second == seconds * 2 // 3:
            rows += started(at_us)
        rows.append(tick_frame(at_us))
        if second in {seconds // 3, seconds // 3 + 1}:
            rows.append(status_frame(at_us, FeedState.LOST if second == seconds // 3 else FeedState.CONNECTED))
        for number in range(3):
            coin, side = ("BTC", "Buy") if number else ("ETH", "Sell")
            item = {"s": f"{coin}USDT", "S": side, "v": f"40.{second + 1}{number}1"}
            rows.append(liquidation_frame(at_us + 100_000 * (number + 1), item))
        if second == seconds // 2:
            rows.append(("bybit-linear/liquidations", b"{", at_us + 500_000))
    return rows


ROWS = recording(30)
ALL = range(1, len(ROWS) + 1)


def run(folder: Path, share: Share, *, name: str, frames: range, dies_at: int | None = None, rows: list[Any]) -> None:
    """Run frames through the flow, with a recovery store; append what are rows, until it dies."""

    def frames_from(first: int) -> Iterator[Frame]:
        for sequence in range(first, frames.stop):
            if sequence == dies_at:
                raise DiedError
            feed, payload, at_us = ROWS[sequence - 1]
            yield Frame(feed, payload, Cause(name, sequence, at_us))

    bunches: list[tuple[str, list[Any]]] = []
    flow = build(
        ReplaySource(name, frames_from, first_sequence=frames.start),
        tables=TestingSink(bunches),
        metrics=MetricsSink(),
        parameters=PARAMETERS,
        addresses=ADDRESSES,
        share=share,
    )
    if not folder.exists():
        folder.mkdir()
        init_db_dir(folder, 1)
    try:
        run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(folder))
    finally:
        rows += [event for _key, bunch in bunches for event in bunch]


def left_by(folder: Path, name: str, inherited: Inheritance | None = None) -> bytes:
    return legacy(recovered(folder), name, inherited, CHAINS)


def handed_to(shard: Shard, legacies: Sequence[bytes]) -> Inheritance | None:
    return inheritance(legacies, shard, CHAINS, PARAMETERS, partition=name_of(shard))


def name_of(shard: Shard) -> str:
    """Return a feed partition: another one whenever the number of shards changes."""
    return f"{shard.index}of{shard.count}"


def generation(folder: Path, count: int, legacies: Sequence[bytes], frames: range) -> tuple[list[Any], list[bytes]]:
    """Run so many shards one after the other, over the same frames; return their rows and what they leave."""
    rows: list[Any] = []
    left = []
    for index in range(count):
        shard, home = Shard(index, count), folder / f"{count}-{index}-{frames.start}"
        name = name_of(shard)
        inherited = handed_to(shard, legacies)
        run(home, Share(shard, shard.is_first, inherited), name=name, frames=frames, rows=rows)
        left.append(left_by(home, name, inherited))
    return rows, left


def described(rows: Sequence[Any]) -> list[str]:
    """Rows as text, in any order, whoever wrote them."""
    words = [msgspec.json.encode(row).decode() for row in rows]
    for name in ("0of1", "0of2", "1of2", "0of3", "1of3", "2of3"):
        words = [each.replace(name, "whole") for each in words]
    return sorted(words)


@pytest.fixture(autouse=True)
def _in_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.replay, "_BATCH_FRAMES", 7)


@pytest.fixture
def whole(tmp_path: Path) -> list[str]:
    rows: list[Any] = []
    run(tmp_path / "whole", Share(), name="whole", frames=ALL, rows=rows)
    assert {type(row).__name__ for row in rows} == {
        "Liquidation",
        "Score",
        "CascadeTransition",
        "AlertChange",
        "DeadLetter",
        "Gap",
    }
    return described(rows)


@pytest.mark.slow
def test_shards_that_change_their_number_again_and_again_write_the_rows_of_one_process(whole, tmp_path: Path) -> None:
    rows: list[Any] = []
    left: list[bytes] = []
    first = 1
    for count, last in ((1, 30), (2, 55), (3, 80), (2, 81), (1, len(ROWS))):
        new_rows, left = generation(tmp_path, count, left, range(first, last + 1))
        rows += new_rows
        first = last + 1

    assert described(rows) == whole


@pytest.mark.slow
def test_without_what_was_left_the_windows_would_have_begun_at_zero(whole, tmp_path: Path) -> None:
    first_rows, _left = generation(tmp_path, 2, [], range(1, 56))
    other_rows, _left = generation(tmp_path, 2, [], range(56, ALL.stop))

    assert described(first_rows + other_rows) != whole


@pytest.mark.slow
def test_a_shard_that_dies_after_it_has_inherited_goes_on_as_if_it_had_not(whole, tmp_path: Path) -> None:
    rows, left = generation(tmp_path, 2, [], range(1, 61))
    for index in range(3):
        shard, home = Shard(index, 3), tmp_path / f"heir-{index}"
        name = name_of(shard)
        share = Share(shard, shard.is_first, handed_to(shard, left))
        for dies_at in (61, 64, 90):  # before anything is durable, and later
            with pytest.raises(BytewaxRuntimeError):
                run(home, share, name=name, frames=range(61, ALL.stop), dies_at=dies_at, rows=rows)
        assert position(recovered(home), name) not in {None, 61}
        run(home, share, name=name, frames=range(61, ALL.stop), rows=rows)

    assert sorted(set(described(rows))) == sorted(set(whole))  # nothing here drops what is replayed


def test_a_shard_that_ends_before_its_first_frame_leaves_what_it_would_have_begun_with(tmp_path: Path) -> None:
    _rows, left = generation(tmp_path, 1, [], range(1, 61))
    inherited = handed_to(Shard(1, 2), left)
    assert inherited is not None

    again = handed_to(Shard(1, 2), [left_by(tmp_path / "nothing", "1of2", inherited)])

    assert again is not None
    assert "BTC" in again.assets
    assert "ETH" not in again.assets  # which is shard 0's
    assert pickle.dumps(again.assets) == pickle.dumps(inherited.assets)


def test_who_has_nothing_leaves_nothing(tmp_path: Path) -> None:
    assert left_by(tmp_path, "0") == b""
    assert handed_to(WHOLE, []) is None
    assert not has_begun(tmp_path)
    assert position(recovered(tmp_path), "0") is None


def test_a_store_says_how_far_it_has_come(tmp_path: Path) -> None:
    run(tmp_path / "store", Share(), name="whole", frames=range(1, 21), rows=[])

    assert has_begun(tmp_path / "store")
    assert position(recovered(tmp_path / "store"), "whole") == 21
    assert position(recovered(tmp_path / "store"), "other") is None


def test_a_store_whose_first_epoch_never_became_durable_has_not_begun(tmp_path: Path) -> None:
    run(tmp_path / "store", Share(), name="whole", frames=range(1, 21), rows=[])
    with sqlite3.connect(tmp_path / "store" / "part-0.sqlite3") as opened:
        opened.execute("UPDATE commits SET commit_epoch = 0")

    assert not has_begun(tmp_path / "store")


def test_a_store_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").write_bytes(b"no database" * 100)

    with pytest.raises(ShardsError, match=r"cannot read the recovery store .*part-0.sqlite3: .*; restore it"):
        recovered(tmp_path)


def test_states_of_another_version_are_refused(tmp_path: Path) -> None:
    _rows, left = generation(tmp_path, 1, [], range(1, 6))

    with pytest.raises(ShardsError, match="another version of the program"):
        inheritance(left, WHOLE, Chains(CHAINS.market_machines[:-1], CHAINS.asset_machines), PARAMETERS, partition="0")
    with pytest.raises(ShardsError, match="cannot be understood"):
        handed_to(WHOLE, [b"garbage"])


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("never said",)


FOREIGN = [
    pickle.dumps((Harmful(),)),
    b"cos\nsystem\n.",
    b"cmarket.contracts\nre\n.",  # ours has imported it, but it is not ours
    b"coperators.machine\nStatefulBatchLogic\n.",
]


@pytest.mark.parametrize("state", FOREIGN)
def test_only_this_programs_own_types_are_made_from_what_was_left(state: bytes, capsys) -> None:
    left = {"market_machines": CHAINS.market_machines, "asset_machines": CHAINS.asset_machines, "market": state, "assets": {}}

    with pytest.raises(ShardsError, match="which no state of this program does"):
        handed_to(WHOLE, [msgspec.msgpack.encode(left)])
    assert capsys.readouterr().out == ""
