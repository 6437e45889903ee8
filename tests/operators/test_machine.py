from dataclasses import dataclass

from operators.machine import chain_builder


def outputs(chain, items):
    """What one bunch of items gives."""
    return [out for bunch in chain.on_batch([items])[0] for out in bunch]


@dataclass
class Doubler:
    """Follows every number by its double; idle once it has seen a zero."""

    state: int = 0
    is_done: bool = False

    def handlers(self):
        return {int: self.on_int}

    def on_int(self, number):
        self.state += 1
        self.is_done = number == 0
        return (number, number * 2.0)

    def snapshot(self):
        return self.state

    def is_idle(self):
        return self.is_done


@dataclass
class FloatEater:
    state: float = 0.0

    def handlers(self):
        return {float: self.on_float}

    def on_float(self, number):
        self.state += number
        return ()

    def snapshot(self):
        return self.state

    def is_idle(self):
        return True


def doubler(state):
    return Doubler(state or 0)


def eater(state):
    return FloatEater(state or 0.0)


def test_machines_run_in_turn_and_pass_on_in_place_what_they_do_not_own():
    chain = chain_builder([doubler])(None)

    assert outputs(chain, [1, "text", 2]) == [1, 2.0, "text", 2, 4.0]


def test_a_later_machine_sees_what_an_earlier_one_derived():
    chain = chain_builder([doubler, eater])(None)

    assert outputs(chain, [1, "text", 2]) == [1, "text", 2]
    assert chain.snapshot() == (2, 6.0)


def test_the_batch_size_changes_nothing():
    whole, single = chain_builder([doubler, eater])(None), chain_builder([doubler, eater])(None)

    items = [3, "a", 1, 5]

    assert outputs(whole, items) == [out for item in items for out in outputs(single, [item])]
    assert whole.snapshot() == single.snapshot()


def test_a_chain_carries_on_from_its_saved_state():
    chain = chain_builder([doubler, eater])((7, 1.5))

    outputs(chain, [1])

    assert chain.snapshot() == (8, 3.5)


def test_a_key_is_discarded_when_every_machine_is_idle():
    chain = chain_builder([doubler, eater])(None)

    assert chain.on_batch([[1]])[1] is False
    assert chain.on_batch([[0]])[1] is True


def test_the_end_of_a_run_flushes_nothing_and_keeps_the_key():
    chain = chain_builder([doubler, eater])(None)

    assert chain.on_eof() == ([], False)


def test_several_bunches_of_a_batch_become_one():
    chain = chain_builder([doubler])(None)

    assert chain.on_batch([[1], [2, 3]])[0] == [[1, 2.0, 2, 4.0, 3, 6.0]]


def test_a_bunch_of_which_nothing_is_left_is_not_passed_on():
    chain = chain_builder([eater])(None)

    assert chain.on_batch([[1.0, 2.0]])[0] == []
