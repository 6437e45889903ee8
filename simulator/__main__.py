"""``python -m simulator``: serve a simulated market on loopback until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from simulator.ethereum import SimulatedEthereum
from simulator.instruments import VENUES
from simulator.market import STEP_MS
from simulator.mining import SimulatedMining
from simulator.scenarios import DEFAULT_SCENARIO, SCENARIOS
from simulator.server import Simulation
from simulator.sockets import to_text

_LOG = logging.getLogger("simulator")
_STDIN = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT, the time is up, or the parent is gone."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(_serve(options))
    return 0


def _parser() -> argparse.ArgumentParser:
    stories = "\n".join(f"  {name:15} {scenario.description}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Serve a simulated market on loopback. It speaks the protocols of Binance USD-M, Bybit v5 and OKX v5,\n"
            "knows every liquidation exactly, and gives the same ones for the same seed.\n\n"
            "When it is ready it prints one line of JSON on stdout with its URL; logs go to stderr."
        ),
        epilog=(
            f"scenarios:\n{stories}\n\n"
            "base URLs, with URL from the first line and ws:// for WebSocket:\n"
            "  URL/binance-usdm   URL/bybit-linear   URL/bybit-inverse   URL/okx\n"
            "besides: an Ethereum node at URL/ethereum, mining sites at URL/mempool and URL/blockchain-com\n\n"
            "what really happened:\n"
            "  curl URL/truth/summary\n"
            "  curl 'URL/truth?venue=okx&published=true'\n\n"
            "to compare exactly: let it liquidate nobody any more and publish the rest, then read the truth\n"
            "  curl -X POST URL/control/stop-liquidations\n\n"
            "a venue that accepts, acknowledges, answers pings and says nothing, as a retired endpoint does\n"
            "  curl -X POST 'URL/control/retire?venue=okx'      and back: URL/control/revive?venue=okx\n\n"
            "what can go wrong on a wire (all kinds: simulator/faults.py)\n"
            "  curl -X POST 'URL/control/faults/okx?kind=drop'\n"
            "  curl -X POST 'URL/control/faults/binance-usdm?kind=refuse&code=429&retry_after=10&path=depth&times=1'\n\n"
            "examples:\n"
            "  python -m simulator --scenario burst --seed 7 --port 8900\n"
            "  python -m simulator --scenario long-cascade --seconds 60 --wait"
        ),
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve at: other than loopback only where a container closes it off"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default=DEFAULT_SCENARIO, help=f"default: {DEFAULT_SCENARIO}")
    parser.add_argument("--seed", type=_seed, default=1, help="decides everything that happens (default 1)")
    parser.add_argument("--speed", type=_speed, default=1.0, help=f"simulated seconds per second, up to {STEP_MS} (default 1)")
    parser.add_argument("--seconds", type=_positive, default=None, help="end after so many seconds")
    parser.add_argument("--wait", action="store_true", help="stand still until every venue has a subscriber")
    parser.add_argument(
        "--retire",
        metavar="VENUE",
        choices=VENUES,
        action="append",
        default=[],
        help="this venue says nothing from the start on",
    )
    parser.add_argument("--parent-pipe", action="store_true", help="end when stdin is closed: no orphan outlives its parent")
    return parser


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _speed(text: str) -> float:
    # Faster, two steps would fall into one millisecond, and two liquidations could look the same.
    if (speed := _positive(text)) > STEP_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is above {STEP_MS}")
    return speed


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.parent_pipe:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    simulation = Simulation(
        SCENARIOS[options.scenario], options.seed, speed=options.speed, waits=options.wait, retired=options.retire
    )
    today = dt.datetime.now(dt.timezone.utc).date()
    mining = SimulatedMining(options.seed, today, price=simulation.bitcoin_price, clock=time.time)
    simulation.mount(SimulatedEthereum(options.seed), mining)
    async with simulation.serve(options.host, options.port) as url:
        ready = {"url": url, "scenario": options.scenario, "seed": options.seed}
        sys.stdout.write(to_text(ready) + "\n")
        sys.stdout.flush()
        _LOG.info("ready at %s, scenario %s, seed %d", url, options.scenario, options.seed)
        try:
            await asyncio.wait_for(stop.wait(), options.seconds)
        except asyncio.TimeoutError:
            _LOG.info("time is up")
    _LOG.info("stopped")


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set ``stop`` at the end of stdin. Reads the descriptor itself: a buffered read would hold up the exit."""
    while os.read(_STDIN, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())
