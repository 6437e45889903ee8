"""Bitcoin's issuance, what a unit of hash power earns in a day, and the price at which a fleet earns its electricity.

Units: difficulty as the protocol counts it (2³² hashes per block and unit), BTC, USD, PH/s, J/TH, USD/kWh.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date

HALVING_BLOCKS = 210_000  # protocol constant
BLOCKS_PER_DAY = 144  # one in ten minutes: what the protocol steers towards
_FIRST_SUBSIDY = 5_000_000_000  # satoshi
_SATOSHI = 100_000_000
_SECONDS_PER_DAY = 86_400
_HASHES_PER_DIFFICULTY = 2**32
_PETAHASH = 1e15

GENESIS_DAY = "2009-01-03"

# UTC day on which a block was found: the four halvings, and round heights between them, because blocks came faster than
# planned in years of growth (halvings alone put July 2010 a fifth too high). Public block chain.
_KNOWN_HEIGHTS = (
    (GENESIS_DAY, 0),
    ("2009-12-30", 32_256),  # first change of difficulty
    ("2010-12-29", 100_000),
    ("2012-09-22", 200_000),
    ("2012-11-28", 210_000),
    ("2014-05-10", 300_000),
    ("2016-02-25", 400_000),
    ("2016-07-09", 420_000),
    ("2017-12-18", 500_000),
    ("2019-10-19", 600_000),
    ("2020-05-11", 630_000),
    ("2021-09-11", 700_000),
    ("2023-07-24", 800_000),
    ("2024-04-20", 840_000),
)

_EPOCH = date(1970, 1, 1).toordinal()


def day_number(day: str) -> int:
    """Return days since 1970-01-01 of a ``YYYY-MM-DD``. Raises ValueError for any other spelling."""
    parsed = date.fromisoformat(day)
    if parsed.isoformat() != day:  # Python 3.11 and later also read 20240420 and 2024-W16-6
        raise ValueError(f"not a day written as YYYY-MM-DD: {day!r}")
    return parsed.toordinal() - _EPOCH


def day_text(number: int) -> str:
    """Return the ``YYYY-MM-DD`` of :func:`day_number`."""
    return date.fromordinal(number + _EPOCH).isoformat()


GENESIS_NUMBER = day_number(GENESIS_DAY)
_DAYS = [day_number(day) for day, _ in _KNOWN_HEIGHTS]
_HEIGHTS = [height for _, height in _KNOWN_HEIGHTS]


def block_height(number: int) -> int:
    """Return the height of the chain on a day (:func:`day_number`): known on a few, linear in between, 144 a day after.

    In between it is off by about a percent in 2010 and by less ever since.

    Raises:
        ValueError: Before the first block.
    """
    if number < GENESIS_NUMBER:
        raise ValueError(f"{day_text(number)} is before the first block")
    at = bisect_right(_DAYS, number) - 1
    since = number - _DAYS[at]
    if at == len(_DAYS) - 1:
        return _HEIGHTS[at] + BLOCKS_PER_DAY * since
    return _HEIGHTS[at] + (_HEIGHTS[at + 1] - _HEIGHTS[at]) * since // (_DAYS[at + 1] - _DAYS[at])


def subsidy_btc(height: int) -> float:
    """Return the new coins of the block at that height."""
    return (_FIRST_SUBSIDY >> (height // HALVING_BLOCKS)) / _SATOSHI


def supply_btc(height: int) -> float:
    """Return all coins issued by the blocks 0 … ``height``, both included, the unspendable first one too."""
    halvings, blocks = divmod(height + 1, HALVING_BLOCKS)
    issued = sum(HALVING_BLOCKS * (_FIRST_SUBSIDY >> era) for era in range(halvings))
    return (issued + blocks * (_FIRST_SUBSIDY >> halvings)) / _SATOSHI


def btc_per_ph_day(*, difficulty: float, btc_per_block: float) -> float:
    """Return what 1 PH/s finds in a day on average; ``btc_per_block`` is subsidy plus mean fees."""
    return _PETAHASH * _SECONDS_PER_DAY / (difficulty * _HASHES_PER_DIFFICULTY) * btc_per_block


def hashprice_usd_per_ph_day(*, difficulty: float, price_usd: float, btc_per_block: float) -> float:
    """Return USD per PH/s and day (scores §6)."""
    return btc_per_ph_day(difficulty=difficulty, btc_per_block=btc_per_block) * price_usd


def break_even_usd(
    *, efficiency_j_per_th: float, electricity_usd_per_kwh: float, difficulty: float, btc_per_block: float
) -> float:
    """Return the price of a coin at which electricity takes all that a fleet finds (scores §6).

    1 J/TH at 1 PH/s is 1 kW, so a day costs efficiency · 24 · USD/kWh per PH/s.
    """
    cost_usd_per_ph_day = efficiency_j_per_th * 24 * electricity_usd_per_kwh
    return cost_usd_per_ph_day / btc_per_ph_day(difficulty=difficulty, btc_per_block=btc_per_block)
