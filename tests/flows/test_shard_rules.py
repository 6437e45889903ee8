"""When a shard may begin, and what it is told when it may not."""

from __future__ import annotations

import pytest

from connectors.sinks.shard_ledger import Ledger, ShardStatus, Tenure
from flows.shard_rules import Join, Mark, Resume, ShardsError, check_positions, decide, name_of
from market.shards import WHOLE, Shard

RUNNING, DRAINED, GIVEN_UP = ShardStatus.RUNNING, ShardStatus.DRAINED, ShardStatus.GIVEN_UP


def tenure(index: int, count: int, status: ShardStatus, *, generation: int = 1, next_sequence: int = 1) -> Tenure:
    return Tenure(
        generation=generation,
        shard=Shard(index, count),
        status=status,
        partition=f"{index}of{count}g{generation}",
        next_sequence=next_sequence,
        begun_us=1_000 * generation + index,
    )


def mark_of(row: Tenure) -> Mark:
    """What the directory says in which that shard runs."""
    return Mark(row.generation, str(row.shard), row.partition, row.begun_us)


def ledger(*statuses: ShardStatus, generation: int = 1, older: tuple[Tenure, ...] = ()) -> Ledger:
    """Shards of a generation, from 0 on."""
    count = len(statuses)
    rows = [tenure(index, count, status, generation=generation) for index, status in enumerate(statuses)]
    return Ledger((*older, *rows))


def refusal(known: Ledger, shard: Shard, mark: Mark | None = None) -> str:
    with pytest.raises(ShardsError) as refused:
        decide(known, shard, mark)
    return str(refused.value)


def test_where_there_is_no_ledger_the_first_generation_begins() -> None:
    assert decide(Ledger(()), Shard(1, 3), None) == Join(1, ())


def test_a_directory_whose_tables_are_gone_is_refused() -> None:
    words = refusal(Ledger(()), Shard(1, 3), mark_of(tenure(1, 3, RUNNING)))

    assert words.startswith("this directory has been shard 1/3 of tables that are not here. Restore the tables")


def test_the_others_of_a_new_generation_join_it_with_the_same_predecessors() -> None:
    older = (tenure(0, 2, DRAINED), tenure(1, 2, DRAINED))
    begun = Ledger((*older, tenure(0, 3, RUNNING, generation=2)))

    assert decide(begun, Shard(2, 3), None) == Join(2, older)
    assert decide(begun, Shard(2, 3), mark_of(tenure(2, 3, RUNNING, generation=2))) == Join(2, older)


def test_a_directory_of_an_earlier_generation_joins_a_new_one_of_the_same_number() -> None:
    known = Ledger((tenure(0, 3, DRAINED, generation=2), tenure(1, 2, RUNNING, generation=3)))

    assert decide(known, Shard(0, 2), mark_of(tenure(0, 2, DRAINED))) == Join(3, known.tenures[:1])


@pytest.mark.parametrize("status", [RUNNING, DRAINED])
def test_a_shard_goes_on_in_its_own_directory(status: ShardStatus) -> None:
    known = ledger(status, RUNNING)

    assert decide(known, Shard(0, 2), mark_of(known.tenures[0])) == Resume(known.tenures[0])


@pytest.mark.parametrize("mark", [None, mark_of(tenure(1, 2, RUNNING)), Mark(1, "0/2", "0of2g1", 77)])
def test_a_shard_that_runs_elsewhere_is_refused(mark: Mark | None) -> None:
    words = refusal(ledger(RUNNING, DRAINED), Shard(0, 2), mark)

    assert "shard 0/2 has its journal and state in another directory (partition 0of2g1)" in words
    assert "`cascadewatch shards --give-up 0/2`" in words


def test_shards_that_have_all_handed_over_begin_anew_in_new_directories() -> None:
    known = ledger(DRAINED, DRAINED)

    assert decide(known, Shard(0, 2), None) == Join(2, known.tenures)


def test_another_number_begins_when_all_have_handed_over() -> None:
    known = ledger(DRAINED, DRAINED)

    assert decide(known, Shard(2, 3), None) == Join(2, known.tenures)
    assert decide(known, WHOLE, None) == Join(2, known.tenures)


def test_another_number_waits_for_those_that_have_not_handed_over_and_names_them() -> None:
    known = Ledger((tenure(0, 3, RUNNING), tenure(1, 3, DRAINED)))

    assert refusal(known, Shard(0, 2)) == (
        "cannot begin as shard 0/2: not handed over yet: shard 0/3, shard 2/3 (never started). Stop what still runs; for what "
        "was killed, or never started, run `cascadewatch drain` with its CASCADEWATCH_SHARD and --data. Then start again"
    )


def test_shards_wait_for_the_undivided_process_and_it_waits_for_them() -> None:
    assert "not handed over yet: the undivided process. Stop" in refusal(ledger(RUNNING), Shard(0, 2))
    assert refusal(ledger(RUNNING, DRAINED), WHOLE).startswith("cannot begin as the undivided process: not handed over yet")


def test_a_shard_that_was_given_up_comes_back_with_the_next_generation_only() -> None:
    known = ledger(GIVEN_UP, RUNNING)

    assert refusal(known, Shard(0, 2), mark_of(known.tenures[0])) == (
        "shard 0/2 was given up, and the others of its generation have not finished. Stop them, so that they hand over; then "
        "start all of them"
    )
    finished = ledger(GIVEN_UP, DRAINED)
    assert decide(finished, Shard(0, 2), mark_of(finished.tenures[0])) == Join(2, finished.tenures)


def test_numbers_go_on_after_the_highest_of_all_predecessors() -> None:
    before = (tenure(0, 2, DRAINED, next_sequence=70), tenure(1, 2, DRAINED, next_sequence=90))

    assert Join(2, before).first_sequence == 90
    assert Join(1, ()).first_sequence == 1


def test_a_replay_goes_on_only_where_all_its_shards_have_stopped() -> None:
    check_positions(())
    check_positions((tenure(0, 2, DRAINED, next_sequence=70), tenure(1, 2, DRAINED, next_sequence=70)))
    check_positions((tenure(0, 2, DRAINED, next_sequence=70), tenure(1, 2, GIVEN_UP, next_sequence=1)))

    with pytest.raises(ShardsError, match=r"stopped at different frames \(0/2 at 69, 1/2 at 89\)"):
        check_positions((tenure(0, 2, DRAINED, next_sequence=70), tenure(1, 2, DRAINED, next_sequence=90)))


def test_shards_are_called_what_people_call_them() -> None:
    assert (name_of(WHOLE), name_of(Shard(1, 3))) == ("the undivided process", "shard 1/3")
