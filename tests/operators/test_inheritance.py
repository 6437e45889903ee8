"""What is handed over is begun with once, and what was saved goes before it."""

from dataclasses import dataclass

from operators.inheritance import Inheritance, Inherited, asset_heir, market_heir


@dataclass
class Sum:
    """Adds numbers up and says the sum after each; idle at zero."""

    total: int = 0

    def handlers(self):
        return {int: self.on_int}

    def on_int(self, number):
        self.total += number
        return (f"sum {self.total}",)

    def snapshot(self):
        return self.total

    def is_idle(self):
        return self.total == 0


def summing(state):
    return Sum(state or 0)


LEFT = Inheritance(market=(10,), assets={"ETH": (3,), "BTC": (2,)})


def test_the_market_begins_with_what_it_inherits_and_sends_the_assets_theirs_first():
    chain = market_heir([summing], LEFT)(None)

    first, second = chain.on_batch([[1]]), chain.on_batch([[1]])

    assert first == ([[Inherited("BTC", (2,)), Inherited("ETH", (3,))], ["sum 11"]], False)
    assert second == ([["sum 12"]], False)
    assert chain.snapshot() == (12,)


def test_what_the_assets_inherit_is_sent_even_before_a_batch_that_gives_nothing():
    assert market_heir([summing], LEFT)(None).on_batch([[]]) == ([[Inherited("BTC", (2,)), Inherited("ETH", (3,))]], False)


def test_a_market_that_was_saved_inherits_nothing():
    chain = market_heir([summing], LEFT)((100,))

    assert chain.on_batch([[1]]) == ([["sum 101"]], False)


def test_an_asset_begins_with_what_comes_first():
    chain = asset_heir([summing])(None)

    assert chain.on_batch([[Inherited("BTC", (2,)), 5], [1]]) == ([["sum 7", "sum 8"]], False)
    assert chain.on_batch([[1]]) == ([["sum 9"]], False)
    assert chain.snapshot() == (9,)


def test_an_asset_without_inheritance_begins_anew_and_one_that_was_saved_goes_on():
    assert asset_heir([summing])(None).on_batch([[5]]) == ([["sum 5"]], False)
    assert asset_heir([summing])((2,)).on_batch([[5]]) == ([["sum 7"]], False)


def test_an_asset_that_inherits_an_idle_state_is_forgotten():
    assert asset_heir([summing])(None).on_batch([[Inherited("BTC", (0,))]]) == ([], True)


def test_the_end_of_input_says_nothing_and_keeps_the_key():
    assert market_heir([summing], LEFT)(None).on_eof() == ([], False)
    assert asset_heir([summing])(None).on_eof() == ([], False)
