from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from market.contracts import (
    AbsurdValueError,
    Contract,
    ContractError,
    ContractRecord,
    Measured,
    UnsupportedContractError,
    number,
    positive,
    split_multiplier,
)
from market.raw import Cause, ContractKind, RawInstrument

TEN_BILLION = 10_000_000_000 * 1_000_000
CAUSE = Cause("p0", 1, 1_700_000_000_000_000)
LISTED = RawInstrument(
    cause=CAUSE,
    venue="binance-usdm",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    settle="USDT",
    kind=ContractKind.LINEAR,
    contract_size="1",
    is_perpetual=True,
    funding_interval_hours="8",
)


def listed(**changes) -> RawInstrument:
    return msgspec.structs.replace(LISTED, **changes)


def contract(**changes) -> Contract:
    return Contract.from_instrument(listed(**changes))


BTCUSDT = contract()
PEPE = contract(symbol="1000PEPEUSDT", base="1000PEPE")
OKX_BTC = contract(venue="okx", symbol="BTC-USDT-SWAP", contract_size="0.01", funding_interval_hours=None)
COIN_MARGINED = contract(symbol="BTCUSD", quote="USD", settle="BTC", kind=ContractKind.INVERSE)
QUANTO = contract(symbol="ETHUSD", base="ETH", quote="USD", settle="XBT", kind=ContractKind.QUANTO, contract_size="0.000001")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("1000PEPE", ("PEPE", 1000)),
        ("1000000MOG", ("MOG", 1_000_000)),
        ("1MBABYDOGE", ("BABYDOGE", 1_000_000)),
        ("10000SATS", ("SATS", 10_000)),
        ("1000X", ("X", 1000)),
        ("SHIB1000", ("SHIB", 1000)),
        ("1INCH", ("1INCH", 1)),
        ("10SET", ("10SET", 1)),
        ("1000", ("1000", 1)),
        ("1MIL", ("1MIL", 1)),
        ("BTC", ("BTC", 1)),
        ("btc", ("BTC", 1)),
        ("XBT", ("BTC", 1)),
        ("1" + "0" * 12 + "X", ("X", 10**12)),
        ("1" + "0" * 13 + "X", ("1" + "0" * 13 + "X", 1)),
        ("X1" + "0" * 13, ("X1" + "0" * 13, 1)),
        ("1" + "0" * 5_000 + "X", ("1" + "0" * 5_000 + "X", 1)),
    ],
)
def test_a_listed_coin_is_split_into_its_name_and_how_many_of_it_are_a_unit(base, expected):
    assert split_multiplier(base) == expected


def test_a_linear_contract_is_worth_coins_times_price():
    assert BTCUSDT.measure("64994.44", "1.234", TEN_BILLION) == Measured(64994.44, 1.234, 80_203_138_960)


def test_contracts_smaller_than_a_coin_are_counted_in_coins():
    assert OKX_BTC.measure("64994.4", "12.5", TEN_BILLION) == Measured(64994.4, 0.125, 8_124_300_000)


def test_a_coin_listed_by_the_thousand_is_counted_one_by_one():
    assert PEPE.measure("0.0098765", "250000", TEN_BILLION) == Measured(0.0000098765, 250_000_000.0, 2_469_125_000)


def test_an_inverse_contract_counts_dollars():
    measured = replace(COIN_MARGINED, contract_size=Decimal(100)).measure("50000", "3", TEN_BILLION)

    assert measured == Measured(50_000.0, 0.006, 300_000_000)


def test_an_inverse_contract_on_a_thousand_coins_counts_coins_one_by_one():
    inverse = contract(base="1000PEPE", quote="USD", settle="PEPE", kind=ContractKind.INVERSE)

    assert inverse.measure("0.01", "5", TEN_BILLION) == Measured(0.00001, 500_000.0, 5_000_000)


def test_a_quanto_contract_is_worth_its_settlement_currency():
    measured = QUANTO.measure("2000", "100", TEN_BILLION, 50_000.0)

    assert measured == Measured(2000.0, 5.0, 10_000_000_000)


def test_a_quanto_contract_is_refused_without_the_price_of_its_settlement_currency():
    with pytest.raises(UnsupportedContractError, match="settles in BTC, whose price in USD is not known"):
        QUANTO.measure("2000", "100", TEN_BILLION)


@pytest.mark.parametrize(
    ("quantity", "micros"), [("0.0000005", 0), ("0.0000015", 2), ("0.0000025", 2), ("0.0000035", 4), ("0.00000351", 4)]
)
def test_half_a_micro_dollar_is_rounded_to_the_even_neighbour(quantity, micros):
    if micros == 0:
        with pytest.raises(AbsurdValueError, match="notional is zero"):
            BTCUSDT.measure("1", quantity, TEN_BILLION)
    else:
        assert BTCUSDT.measure("1", quantity, TEN_BILLION) == Measured(1.0, float(quantity), micros)


@pytest.mark.parametrize(
    ("price", "quantity", "reason"),
    [
        ("", "1", "price is not a number: ''"),
        ("abc", "1", "price is not a number: 'abc'"),
        ("1", "1.2.3", "quantity is not a number: '1.2.3'"),
        ("1", "1_000", "quantity is not a number: '1_000'"),
        ("1", " 1", "quantity is not a number: ' 1'"),
        ("1", "+1", "quantity is not a number: '+1'"),
        ("1", "\u0661", "quantity is not a number: '\u0661'"),
        ("NaN", "1", "price is not a number: 'NaN'"),
        ("1", "Infinity", "quantity is not a number: 'Infinity'"),
        ("1", "1" * 65, "quantity is not a number: '" + "1" * 64 + "'"),
        ("0", "1", "price is zero: 0"),
        ("0.00", "1", "price is zero: 0.00"),
        ("1", "0", "quantity is zero: 0"),
        ("1", "1e-20", "quantity is zero: 1e-20"),
        ("-1", "1", "price is negative: -1"),
        ("-1", "-1", "price is negative: -1"),
        ("1", "-0.5", "quantity is negative: -0.5"),
        ("1e18", "1", "price is absurdly large: 1e18"),
        ("1", "1000000000000000000", "quantity is absurdly large: 1000000000000000000"),
        ("100", "100000000.1", "notional is absurdly large: 100 × 100000000.1 is 10000000010.00 USD"),
    ],
)
def test_an_absurd_number_is_refused_with_its_reason(price, quantity, reason):
    with pytest.raises(AbsurdValueError) as refusal:
        BTCUSDT.measure(price, quantity, TEN_BILLION)

    assert refusal.value.reason == reason


def test_a_notional_of_exactly_the_limit_is_believed():
    assert BTCUSDT.measure("100", "100000000", TEN_BILLION) == Measured(100.0, 100_000_000.0, TEN_BILLION)


def test_an_exponent_is_a_number():
    assert BTCUSDT.measure("6.5e4", "1E-3", TEN_BILLION) == Measured(65_000.0, 0.001, 65_000_000)


NUMBERS = st.builds("{}.{}".format, st.integers(0, 10**8), st.text("0123456789", min_size=1, max_size=30))
CONTRACTS = st.sampled_from([BTCUSDT, PEPE, OKX_BTC, contract(contract_size="0.00012345678901234567")])


@given(price_text=NUMBERS, quantity_text=NUMBERS, of=CONTRACTS)
def test_linear_arithmetic_is_exact_whatever_the_number_of_digits(price_text, quantity_text, of):
    counted = Fraction(quantity_text) * Fraction(of.contract_size)
    micros = round(counted * Fraction(price_text) * 1_000_000)
    if micros == 0:
        return

    measured = of.measure(price_text, quantity_text, 10**40)

    assert measured == Measured(float(Fraction(price_text) / of.multiplier), float(counted * of.multiplier), micros)


INVERSE = st.sampled_from([COIN_MARGINED, contract(base="1000PEPE", kind=ContractKind.INVERSE, contract_size="100")])


@given(price_text=NUMBERS, quantity_text=NUMBERS, of=INVERSE)
def test_inverse_arithmetic_is_exact_in_dollars_and_nearly_in_coins(price_text, quantity_text, of):
    usd = Fraction(quantity_text) * Fraction(of.contract_size)
    per_coin = Fraction(price_text) / of.multiplier
    micros = round(usd * 1_000_000)
    if micros == 0 or per_coin < Fraction("1e-15"):
        return

    measured = of.measure(price_text, quantity_text, 10**40)

    assert measured == Measured(float(per_coin), pytest.approx(float(usd / per_coin), rel=1e-15), micros)


@given(
    price=st.text(UNICODE, max_size=70),
    quantity=st.text(UNICODE, max_size=70),
    of=st.sampled_from([BTCUSDT, PEPE, COIN_MARGINED, QUANTO]),
)
def test_any_text_is_measured_or_refused(price, quantity, of):
    with suppress(ContractError):
        assert 0 < of.measure(price, quantity, TEN_BILLION).notional_micros <= TEN_BILLION


@pytest.mark.parametrize("quote", ["EUR", "BTC", ""])
def test_a_contract_priced_in_anything_but_dollars_is_refused(quote):
    with pytest.raises(UnsupportedContractError, match=f"priced in '{quote}'"):
        contract(quote=quote)


@pytest.mark.parametrize("quote", ["USD", "USDT", "USDC", "usdc"])
def test_dollar_stablecoins_are_dollars(quote):
    assert contract(quote=quote) == BTCUSDT


@pytest.mark.parametrize("changes", [{"contract_size": "0"}, {"contract_size": "x"}, {"funding_interval_hours": "-8"}])
def test_a_contract_with_an_absurd_term_is_refused(changes):
    with pytest.raises(AbsurdValueError):
        contract(**changes)


def test_a_line_of_the_list_becomes_a_contract():
    assert contract(base="XBT", settle="XBT", contract_size="0.10", is_perpetual=False) == Contract(
        venue="binance-usdm",
        symbol="BTCUSDT",
        asset="BTC",
        kind=ContractKind.LINEAR,
        contract_size=Decimal("0.1"),
        multiplier=1,
        settle_asset="BTC",
        funding_interval_hours=8.0,
        is_perpetual=False,
    )


@pytest.mark.parametrize("of", [BTCUSDT, PEPE, OKX_BTC, COIN_MARGINED, QUANTO])
def test_a_contract_survives_being_saved(of):
    record = msgspec.msgpack.decode(msgspec.msgpack.encode(of.record()), type=ContractRecord)

    assert Contract.from_record(record) == of == pickle.loads(pickle.dumps(of))  # noqa: S301 - our own bytes
    assert Contract.from_record(record).measure("2", "3", TEN_BILLION, 5.0) == of.measure("2", "3", TEN_BILLION, 5.0)


# What a run of mutation testing found that nothing had asked for.


def test_a_tie_is_decided_by_the_last_digit_however_far_behind_it_lies():
    """28 digits, the precision of Python's own operators, would not see it and round to the even neighbour."""
    of = contract(contract_size="1." + "0" * 28 + "1")

    assert of.measure("100000.5", "0.000001", TEN_BILLION).notional_micros == 100_001
    assert contract(contract_size="1").measure("100000.5", "0.000001", TEN_BILLION).notional_micros == 100_000


@pytest.mark.parametrize(
    ("price", "quantity", "what"), [("0.000001", "1" + "0" * 18, "quantity"), ("1" + "0" * 18, "0.000001", "price")]
)
def test_a_short_number_of_eighteen_zeros_is_absurd_even_where_the_notional_is_not(price, quantity, what):
    with pytest.raises(AbsurdValueError, match=f"{what} is absurdly large"):
        BTCUSDT.measure(price, quantity, 10**30)


@pytest.mark.parametrize("zeros", [0, 40])
def test_the_largest_notional_is_not_absurd_yet(zeros):
    one = "1." + "0" * zeros  # long texts are measured the careful way

    assert BTCUSDT.measure(one, "1", 1_000_000).notional_micros == 1_000_000
    with pytest.raises(AbsurdValueError, match="notional is absurdly large"):
        BTCUSDT.measure(one, "1", 999_999)


def test_contracts_of_two_coins_are_twice_as_many_coins():
    assert contract(contract_size="2").measure("100", "3", TEN_BILLION) == Measured(100.0, 6.0, 600_000_000)


def test_a_number_may_have_sixty_four_characters_and_no_more():
    assert number("0." + "0" * 61 + "1", "x") == Decimal("1e-62")
    with pytest.raises(AbsurdValueError, match="x is not a number"):
        number("0." + "0" * 62 + "1", "x")


@pytest.mark.parametrize("text", ["1e-18", "0.000000000000000001", "0"])
def test_what_must_be_positive_is_above_the_smallest_number(text):
    with pytest.raises(AbsurdValueError, match=f"x is zero: {text}"):
        positive(text, "x")

    assert positive("1.1e-18", "x") == Decimal("1.1e-18")


def test_a_list_that_says_no_funding_interval_leaves_it_unknown():
    assert contract(funding_interval_hours=None).funding_interval_hours is None


@pytest.mark.parametrize(
    ("changes", "what"), [({"contract_size": "0"}, "contract size"), ({"funding_interval_hours": "0"}, "funding interval")]
)
def test_what_is_wrong_in_a_list_of_contracts_is_named(changes, what):
    with pytest.raises(AbsurdValueError, match=f"^{what} is zero: 0$"):
        contract(**changes)
