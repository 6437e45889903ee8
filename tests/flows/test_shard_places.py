"""Taking a place among the shards, leaving it, and losing it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.sinks.shard_ledger import LedgerConflictError, ShardLedger, ShardStatus
from connectors.sources.journal import Journal
from flows import shards
from flows.handover import recovered
from flows.shard_rules import ShardsError
from flows.shards import (
    MARK_NAME,
    Place,
    adopt,
    finish,
    give_up,
    home_of,
    read_mark,
    settle,
    shard_of_recording,
)
from market.shards import WHOLE, Shard

ONE, TWO = Shard(0, 2), Shard(1, 2)


def nobody() -> bool:
    return False


@pytest.fixture
def ledger(tmp_path: Path) -> ShardLedger:
    return ShardLedger(str(tmp_path / "tables"))


@pytest.fixture
def come(tmp_path: Path, ledger: ShardLedger) -> Callable[..., Place]:
    """Return what starts a shard in its directory below one that all share."""

    def start(shard: Shard, *, recording: str | None = None, may_begin: bool = True, volume: str = "data") -> Place:
        home = home_of(tmp_path / volume, shard)
        home.mkdir(parents=True, exist_ok=True)
        return settle(ledger, shard, home, recording=recording, was_undivided=nobody, may_begin=may_begin)

    return start


def leave(ledger: ShardLedger, place: Place, next_sequence: int = 10) -> None:
    assert place.tenure is not None
    finish(ledger, place.tenure, next_sequence=next_sequence, states=b"states")


def statuses(ledger: ShardLedger) -> list[tuple[str, ShardStatus]]:
    return [(str(each.shard), each.status) for each in ledger.read().newest]


def test_a_shards_directory_is_below_the_data_directory_and_the_whole_markets_is_that_itself() -> None:
    assert home_of(Path("data"), Shard(1, 3)) == Path("data/shard-1-of-3")
    assert home_of(Path("data"), WHOLE) == Path("data")


def test_an_undivided_process_that_always_was_one_has_no_ledger(come, ledger, tmp_path) -> None:
    assert come(WHOLE) == Place(WHOLE, tmp_path / "data", "0")
    assert come(WHOLE, recording="old") == Place(WHOLE, tmp_path / "data", "old")
    assert ledger.read().tenures == ()


def test_shards_begin_with_partitions_journals_and_directories_of_their_own(come, ledger, tmp_path) -> None:
    first, second = come(ONE), come(TWO)

    assert (first.partition, second.partition) == ("0of2g1", "1of2g1")
    assert second.journal == tmp_path / "data" / "shard-1-of-2" / "journal" / "1of2g1.db"
    assert second.recovery == tmp_path / "data" / "shard-1-of-2" / "recovery"
    assert first.is_receiver
    assert second.is_receiver
    assert statuses(ledger) == [("0/2", ShardStatus.RUNNING), ("1/2", ShardStatus.RUNNING)]


def test_a_shard_that_was_killed_goes_on_where_it_was(come, ledger) -> None:
    before = come(ONE)

    assert come(ONE) == before
    assert ledger.read().changes == 1


def test_a_shard_that_has_handed_over_takes_it_back_and_goes_on(come, ledger) -> None:
    before = come(ONE)
    leave(ledger, before)

    assert come(ONE).partition == before.partition
    assert statuses(ledger) == [("0/2", ShardStatus.RUNNING)]
    assert ledger.states(1) == {}


@pytest.mark.slow
def test_the_next_generation_has_new_partitions_and_numbers_that_go_on(come, ledger) -> None:
    leave(ledger, come(ONE), 40)
    leave(ledger, come(TWO), 70)

    place = come(Shard(1, 3))

    journal = Journal(place.journal)
    assert place.partition == "1of3g2"
    assert (journal.first_sequence, journal.next_sequence, journal.frame_count) == (70, 70, 0)
    assert [(str(each.shard), each.next_sequence) for each in place.predecessors] == [("0/2", 40), ("1/2", 70)]


@pytest.mark.slow
def test_going_back_to_an_earlier_number_meets_nothing_of_before(come, ledger) -> None:
    leave(ledger, come(ONE), 40)
    leave(ledger, come(TWO), 70)
    stale = come(Shard(0, 3))
    for index in range(3):
        leave(ledger, come(Shard(index, 3)), 90 + index)
    recovery = home_of(stale.home.parent, ONE) / "recovery"
    recovery.mkdir()
    for number in range(2):
        (recovery / f"part-{number}.sqlite3").write_text("of generation 1")

    place = come(ONE)

    assert place.partition == "0of2g3"
    assert Journal(place.journal).next_sequence == 92
    assert recovered(place.recovery) == {}
    assert len(list(place.recovery.glob("part-*.sqlite3"))) == 2


@pytest.mark.slow
def test_two_generations_back_nothing_is_kept(come, ledger) -> None:
    leave(ledger, come(ONE))
    leave(ledger, come(TWO))
    leave(ledger, come(WHOLE))
    come(ONE)

    assert {each.generation for each in ledger.read().tenures} == {2, 3}
    assert come(TWO).predecessors == ledger.read().of(2)


def test_a_start_that_died_before_it_was_in_the_ledger_is_repeated(come, ledger, monkeypatch) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(ledger, "write", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            come(ONE)

    assert come(ONE).partition == "0of2g1"


def test_an_entry_that_died_before_it_was_in_the_ledger_is_repeated(come, ledger, monkeypatch) -> None:
    whole = come(WHOLE)
    with monkeypatch.context() as dying:
        dying.setattr(ledger, "write", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adopt(ledger, whole.home, "0")

    assert come(WHOLE) == whole
    assert adopt(ledger, whole.home, "0").tenure is not None


def test_a_start_that_died_after_it_was_in_the_ledger_goes_on(come, ledger, monkeypatch) -> None:
    write = ledger.write

    def writing_last(*arguments, **options) -> None:
        write(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(ledger, "write", writing_last)
        with pytest.raises(KeyboardInterrupt):
            come(ONE)

    assert come(ONE).partition == "0of2g1"
    assert ledger.read().changes == 1


def test_tables_that_are_gone_are_missed(come, ledger) -> None:
    come(ONE)
    shutil.rmtree(ledger.uri)

    with pytest.raises(ShardsError, match="this directory has been shard 0/2 of tables that are not here"):
        come(ONE)


def test_a_start_that_loses_a_race_reads_again(come, ledger, monkeypatch) -> None:
    write, lost = ledger.write, []

    def losing(*arguments, **options) -> None:
        if not lost:
            lost.append(True)
            raise LedgerConflictError
        write(*arguments, **options)

    monkeypatch.setattr(ledger, "write", losing)

    leave(ledger, come(ONE))
    assert statuses(ledger) == [("0/2", ShardStatus.DRAINED)]


def test_races_without_end_are_given_up(come, ledger, monkeypatch) -> None:
    place = come(ONE)

    def losing(*_arguments, **_options) -> None:
        raise LedgerConflictError

    monkeypatch.setattr(ledger, "write", losing)
    monkeypatch.setattr(shards, "_ATTEMPTS", 3)

    with pytest.raises(ShardsError, match="3 times meanwhile: start again"):
        come(TWO)
    with pytest.raises(ShardsError, match="3 times meanwhile: run `cascadewatch drain`"):
        leave(ledger, place)
    with pytest.raises(ShardsError, match="another shard has just begun or ended"):
        give_up(ledger, ONE)


def test_shards_wait_for_an_undivided_process_that_knew_no_ledger(ledger, tmp_path) -> None:
    with pytest.raises(
        ShardsError, match=r"has written these tables and has not handed over. Stop it, run `cascadewatch drain`"
    ):
        settle(ledger, ONE, tmp_path, recording=None, was_undivided=lambda: True)


def test_an_undivided_process_can_be_entered_afterwards_and_then_hands_over(come, ledger, tmp_path) -> None:
    whole = come(WHOLE)
    place = adopt(ledger, whole.home, "0")
    leave(ledger, place, 50)

    assert place.partition == "0"
    assert [(str(each.shard), each.next_sequence) for each in come(TWO).predecessors] == [("0/1", 50)]
    with pytest.raises(ShardsError, match="another process has begun"):
        adopt(ledger, tmp_path, "0")


def test_what_is_to_be_finished_must_have_begun(come, ledger) -> None:
    with pytest.raises(ShardsError, match="there is no shard 0/2 at present"):
        come(ONE, may_begin=False)
    leave(ledger, come(ONE))

    assert come(TWO, may_begin=False).partition == "1of2g1"
    assert come(ONE, may_begin=False).partition == "0of2g1"


def test_a_replays_shards_say_what_they_replay_and_only_the_first_writes_what_concerns_no_asset(come, ledger) -> None:
    first, second = come(ONE, recording="0"), come(TWO, recording="0")

    assert (first.partition, first.is_receiver) == ("0-0of2g1", True)
    assert (second.partition, second.is_receiver) == ("0-1of2g1", False)
    assert not first.journal.parent.exists()
    leave(ledger, first, 40)
    leave(ledger, second, 50)
    with pytest.raises(ShardsError, match="stopped at different frames"):
        come(WHOLE, recording="0")


def test_a_volume_that_is_lost_can_be_given_up_and_the_others_carry_on(come, ledger) -> None:
    leave(ledger, come(ONE), 40)
    come(TWO)
    with pytest.raises(ShardsError, match="in another directory"):
        come(TWO, volume="new")

    give_up(ledger, TWO)

    assert statuses(ledger) == [("0/2", ShardStatus.DRAINED), ("1/2", ShardStatus.GIVEN_UP)]
    assert come(TWO, volume="new").partition == "1of2g2"


def test_a_shard_that_never_came_can_be_given_up_too(come, ledger) -> None:
    leave(ledger, come(ONE), 40)

    give_up(ledger, TWO)

    assert come(WHOLE).partition == "0of1g2"


def test_what_has_handed_over_or_is_not_there_cannot_be_given_up(come, ledger) -> None:
    with pytest.raises(ShardsError, match="there is no shard 0/2 now"):
        give_up(ledger, ONE)
    leave(ledger, come(ONE))

    with pytest.raises(ShardsError, match="has handed over: nothing of it is lost"):
        give_up(ledger, ONE)
    with pytest.raises(ShardsError, match="there is no shard 0/3 now"):
        give_up(ledger, Shard(0, 3))


def test_a_shard_whose_work_others_carry_on_cannot_hand_over_any_more(come, ledger) -> None:
    place = come(ONE)
    give_up(ledger, ONE)
    give_up(ledger, TWO)
    come(WHOLE)

    with pytest.raises(ShardsError, match="shard 0/2 was given up while it ran, and others carry on"):
        leave(ledger, place)


def test_a_damaged_mark_is_named(tmp_path) -> None:
    (tmp_path / MARK_NAME).write_text("{")

    with pytest.raises(ShardsError, match=r"shard.json is damaged"):
        read_mark(tmp_path)


@pytest.mark.parametrize(
    ("recording", "shard"), [("0", None), ("1of3g2", Shard(1, 3)), ("3of3g2", None), ("0-1of3g2", None), ("1of3", None)]
)
def test_a_journals_name_says_whose_it_is(recording, shard) -> None:
    assert shard_of_recording(recording) == shard
