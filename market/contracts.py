"""Contract arithmetic: the only place where a venue's text becomes numbers.

A *unit* is the coin as the venue counts it (``1000PEPE`` is a unit of a thousand PEPE); ``multiplier`` is coins per unit.

=========  ============================  ==========================================================  =======================
kind       ``contract_size`` is          notional in USD                                             coins
=========  ============================  ==========================================================  =======================
linear     units per contract            quantity × size × price                                     quantity × size × mult.
inverse    USD per contract              quantity × size                                             notional ÷ price × mult.
quanto     settlement currency per       quantity × size × price × USD per settlement currency       notional ÷ price × mult.
           contract and unit of price
=========  ============================  ==========================================================  =======================

Prices go out in USD per coin: price ÷ multiplier. Arithmetic is exact decimal; micro-USD are rounded half to even; floats
are the nearest to the exact value. USD stablecoins count as one US dollar each (:data:`USD_CURRENCIES`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Union

import msgspec

from market.raw import ContractKind, RawInstrument

MICROS_PER_USD = 1_000_000

USD_CURRENCIES = frozenset({"USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USDE", "USD1", "USDG"})
"""Quote currencies taken as one US dollar: a stablecoin that loses its peg by 1 % makes its contracts wrong by 1 %."""

_ALIASES = {"XBT": "BTC"}  # BitMEX, Kraken and KuCoin spell Bitcoin as ISO 4217 would

# Venues list cheap coins by the thousand, with the zeros before (1000PEPE) or after (Bybit's SHIB1000). At least three
# zeros: 1INCH, 10SET and 4 are coins of their own. At most twelve: what has more is no number to reckon with.
_ZEROS_BEFORE = re.compile(r"(10{3,12})(\D.*)")
_ZEROS_AFTER = re.compile(r"(.*\D)(10{3,12})")
_MILLION_BEFORE = re.compile(r"1M([A-Z]{3,})")  # Binance's 1MBABYDOGE

_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_PLAIN = "0123456789."  # Python alone would also read " 1", "+1", "1_000" and Arabic digits, which no venue writes
_MAX_TEXT = 64  # characters; the longest number in a recorded message has 23
_MAX_NUMBER = Decimal(10) ** 18  # wider than any price or quantity ever listed, near enough to keep every step small
_MIN_NUMBER = 1 / _MAX_NUMBER
_MAX_FLOAT = float(_MAX_NUMBER)
_MIN_FLOAT = float(_MIN_NUMBER)

EXACT = Context(prec=4 * _MAX_TEXT, rounding=ROUND_HALF_EVEN)
"""Room for the exact product of any two numbers, a contract size and a settlement price."""

QUOTIENT = Context(prec=40, rounding=ROUND_HALF_EVEN)
"""For divisions, which may have no end: a float keeps 17 digits of them."""

_OPERATOR_DIGITS = 28  # precision of Python's own context, in which ``*`` works


class ContractError(Exception):
    """An item that cannot be measured: it becomes a dead letter, never a guess. ``reason`` says why in words."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


class UnknownSymbolError(ContractError):
    """No list of instruments has named this symbol."""


class AbsurdValueError(ContractError):
    """Not a number, not finite, zero or negative where it must be positive, or beyond any limit that makes sense."""


class UnsupportedContractError(ContractError):
    """A contract, or an amount of it, that cannot be stated in USD."""


class FutureTimeError(ContractError):
    """A time further ahead of our clock than clocks differ."""


class Measured(msgspec.Struct, frozen=True, gc=False):
    """A quantity at a price: USD per coin, coins, micro-USD."""

    price: float
    base_quantity: float
    notional_micros: int


def split_multiplier(base: str) -> tuple[str, int]:
    """Return the coin and how many of it one unit is: ``1000PEPE`` is ``("PEPE", 1000)``; aliases become one name."""
    text = base.upper()
    if found := _ZEROS_BEFORE.fullmatch(text):
        return _name(found[2]), int(found[1])
    if found := _MILLION_BEFORE.fullmatch(text):
        return _name(found[1]), 1_000_000
    if found := _ZEROS_AFTER.fullmatch(text):
        return _name(found[1]), int(found[2])
    return _name(text), 1


def _name(coin: str) -> str:
    return _ALIASES.get(coin, coin)


def number(text: str, what: str) -> Decimal:
    """Read a number of either sign.

    Raises:
        AbsurdValueError: Not a plain decimal number, or 10^18 and more in size. ``what`` names it in the reason.
    """
    if len(text) > _MAX_TEXT or _NUMBER.fullmatch(text) is None:
        raise AbsurdValueError(f"{what} is not a number: {text[:_MAX_TEXT]!r}")
    value = Decimal(text)
    if abs(value) >= _MAX_NUMBER:
        raise AbsurdValueError(f"{what} is absurdly large: {text}")
    return value


def not_negative(text: str, what: str) -> Decimal:
    """Read a number that may be zero. Raises AbsurdValueError as :func:`number` does, and when negative."""
    value = number(text, what)
    if value < 0:
        raise AbsurdValueError(f"{what} is negative: {text}")
    return value


def positive(text: str, what: str) -> Decimal:
    """Read a number above 10⁻¹⁸. Raises AbsurdValueError as :func:`number` does, and when zero, negative or smaller."""
    value = not_negative(text, what)
    if value <= _MIN_NUMBER:
        raise AbsurdValueError(f"{what} is zero: {text}")
    return value


ContractRecord = tuple[str, str, str, ContractKind, str, int, str, Union[float, None], bool]
"""A contract's terms as plain values, for saved state."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What one contract of a venue is.

    Attributes:
        asset: The coin, without multiplier.
        contract_size: See the table at the top of the module.
        multiplier: Coins per unit.
        settle_asset: The currency of profit and loss: matters for quanto.
        funding_interval_hours: ``None`` where the list of instruments does not say.
    """

    venue: str
    symbol: str
    asset: str
    kind: ContractKind
    contract_size: Decimal
    multiplier: int
    settle_asset: str
    funding_interval_hours: float | None
    is_perpetual: bool
    _micros: Decimal = field(init=False, repr=False, compare=False)
    _coins: Decimal = field(init=False, repr=False, compare=False)
    _is_linear: bool = field(init=False, repr=False, compare=False)
    _is_coin: bool = field(init=False, repr=False, compare=False)
    _exact_text: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what every measurement needs."""
        micros = EXACT.normalize(EXACT.multiply(self.contract_size, Decimal(MICROS_PER_USD)))
        digits = _OPERATOR_DIGITS - len(micros.as_tuple().digits)
        is_linear = self.kind is ContractKind.LINEAR
        object.__setattr__(self, "_micros", micros)
        object.__setattr__(self, "_coins", EXACT.multiply(self.contract_size, Decimal(self.multiplier)))
        object.__setattr__(self, "_is_linear", is_linear)
        object.__setattr__(self, "_is_coin", is_linear and self.multiplier == 1 and self.contract_size == 1)
        object.__setattr__(self, "_exact_text", -1 if self.kind is ContractKind.QUANTO else digits)

    @classmethod
    def from_instrument(cls, raw: RawInstrument) -> Contract:
        """Read one line of a venue's list.

        Raises:
            UnsupportedContractError: The price is not in US dollars.
            AbsurdValueError: The contract's size or funding interval is not a positive number.
        """
        if raw.quote.upper() not in USD_CURRENCIES:
            raise UnsupportedContractError(f"priced in {raw.quote!r}, which is not the US dollar")
        asset, multiplier = split_multiplier(raw.base)
        hours = raw.funding_interval_hours
        return cls(
            venue=raw.venue,
            symbol=raw.symbol,
            asset=asset,
            kind=raw.kind,
            contract_size=positive(raw.contract_size, "contract size"),
            multiplier=multiplier,
            settle_asset=split_multiplier(raw.settle)[0],
            funding_interval_hours=None if hours is None else float(positive(hours, "funding interval")),
            is_perpetual=raw.is_perpetual,
        )

    def record(self) -> ContractRecord:
        """Return the terms as plain values; :meth:`from_record` takes them back."""
        return (
            self.venue,
            self.symbol,
            self.asset,
            self.kind,
            str(self.contract_size),
            self.multiplier,
            self.settle_asset,
            self.funding_interval_hours,
            self.is_perpetual,
        )

    @classmethod
    def from_record(cls, record: ContractRecord) -> Contract:
        """Rebuild a contract from :meth:`record`."""
        venue, symbol, asset, kind, size, multiplier, settle_asset, hours, is_perpetual = record
        return cls(venue, symbol, asset, kind, Decimal(size), multiplier, settle_asset, hours, is_perpetual)

    def measure(
        self,
        price_text: str,
        quantity_text: str,
        max_notional_micros: int,
        settlement_usd: float | None = None,
    ) -> Measured:
        """Return the face value of so many contracts at a price.

        The usual case (not quanto, short texts) is done at once with Python's operators, whose 28 digits are then exact but
        for a quotient's; everything else, and every refusal, is left to the careful way.

        Args:
            price_text: Quote currency per unit.
            quantity_text: Contracts.
            max_notional_micros: More than this is absurd.
            settlement_usd: USD per unit of the settlement currency; only quanto needs it.

        Raises:
            AbsurdValueError: As above, or not a positive number, or worth less than half a micro-dollar.
            UnsupportedContractError: Quanto without ``settlement_usd``.
        """
        texts = price_text + quantity_text
        if len(texts) <= self._exact_text and not texts.strip(_PLAIN):
            try:
                price = float(price_text)
                base_quantity = float(quantity_text)
                if _MIN_FLOAT < price < _MAX_FLOAT and _MIN_FLOAT < base_quantity < _MAX_FLOAT:
                    quantity = Decimal(quantity_text)
                    micros = round(
                        Decimal(price_text) * quantity * self._micros if self._is_linear else quantity * self._micros
                    )
                    if 0 < micros <= max_notional_micros:
                        if not self._is_coin:
                            price, base_quantity = self._per_coin_and_coins(price, price_text, quantity)
                        return Measured(price, base_quantity, micros)
            except ValueError:
                pass  # the careful way says what is wrong with it
        return self._measure_carefully(price_text, quantity_text, max_notional_micros, settlement_usd)

    def _per_coin_and_coins(self, price: float, price_text: str, quantity: Decimal) -> tuple[float, float]:
        coins = quantity * self._coins
        if not self._is_linear:
            coins /= Decimal(price_text)
        return price if self.multiplier == 1 else float(Decimal(price_text) / self.multiplier), float(coins)

    def _measure_carefully(self, price_text: str, quantity_text: str, limit: int, settlement_usd: float | None) -> Measured:
        price = positive(price_text, "price")
        quantity = positive(quantity_text, "quantity")
        usd = self.notional(price, quantity, settlement_usd)
        micros = round(EXACT.multiply(usd, Decimal(MICROS_PER_USD)))
        if micros > limit:
            raise AbsurdValueError(f"notional is absurdly large: {price_text} × {quantity_text} is {usd:.2f} USD")
        if micros == 0:
            raise AbsurdValueError(f"notional is zero: {price_text} × {quantity_text}")
        return Measured(float(self.per_coin(price)), float(self.coins(price, quantity, usd)), micros)

    def notional(self, price: Decimal, quantity: Decimal, settlement_usd: float | None = None) -> Decimal:
        """Return the face value in USD of ``quantity`` contracts at ``price`` per unit.

        Raises:
            UnsupportedContractError: Quanto without ``settlement_usd``.
        """
        counted = EXACT.multiply(quantity, self.contract_size)
        if self.kind is ContractKind.INVERSE:
            return counted
        if self._is_linear:
            return EXACT.multiply(counted, price)
        if settlement_usd is None:
            raise UnsupportedContractError(f"settles in {self.settle_asset}, whose price in USD is not known")
        return EXACT.multiply(EXACT.multiply(counted, price), Decimal(repr(settlement_usd)))

    def coins(self, price: Decimal, quantity: Decimal, usd: Decimal) -> Decimal:
        """Return the coins of ``quantity`` contracts; ``usd`` is their face value at ``price`` per unit."""
        if self._is_linear:
            return EXACT.multiply(quantity, self._coins)
        return EXACT.multiply(QUOTIENT.divide(usd, price), Decimal(self.multiplier))

    def per_coin(self, price: Decimal) -> Decimal:
        """Return USD per coin of a price per unit."""
        return price if self.multiplier == 1 else EXACT.divide(price, Decimal(self.multiplier))
