"""What people hand over: frames to ``cascadewatch parse``, settings, and a file of days to ``cascadewatch miners``."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from cascadewatch.describe_settings import markdown
from cascadewatch.miner_history import HistoryError, read_miner_day
from cascadewatch.parse_frames import FrameReader
from connectors.sources.registry import VENUES
from flows.collection import collection_of
from flows.settings import CONFIG_VARIABLE, ENV_PREFIX, SettingsError, load_settings
from fuzzing.corpus import seeds_of
from fuzzing.frames import RECEIVED_US
from fuzzing.mutator import Mutator
from fuzzing.target import Answer, Target, kind_of

_READERS = {venue: FrameReader(venue, received_us=RECEIVED_US) for venue in VENUES}
_LISTS = {
    venue: [seed for seed in seeds_of(f"{venue}/instruments") if b"ontractType" in seed or b"ctType" in seed]
    for venue in VENUES
}


class _PieceSource:
    """Changed pieces of text, each behind a line that says what it is for."""

    def __init__(self, chance: random.Random, names: Sequence[str], seeds: Sequence[bytes]) -> None:
        self._chance = chance
        self._names = names
        self._mutator = Mutator(seeds, [], chance)

    def make(self) -> bytes:
        return self._chance.choice(self._names).encode() + b"\n" + self._mutator.frame()

    def keep(self, data: bytes, answer: Answer) -> None:
        self._mutator.keep(data.partition(b"\n")[2], is_understood=not answer.refused)


def _command_line_source(chance: random.Random) -> _PieceSource:
    names = [f"{venue} {what}" for venue in VENUES for what in ("frame", "frame", "list")]
    return _PieceSource(chance, names, [seed for venue in VENUES for seed in seeds_of(f"{venue}/liquidations")])


def take_line(data: bytes) -> Answer:
    """Show what the parser makes of a line, as the command does."""
    name, _, payload = data.partition(b"\n")
    venue, _, what = name.decode(errors="replace").partition(" ")
    if venue not in VENUES:
        return Answer(1, 1, "no venue")
    reader = _READERS[venue]
    if what == "list":
        reader = FrameReader(venue, [payload, *_LISTS[venue]], received_us=RECEIVED_US)
        payload = seeds_of(f"{venue}/liquidations")[0]
    shown = json.dumps(reader.read(payload))
    said = json.loads(shown)
    return Answer(1, int("refused" in said), f"{said.get('error')} {len(said.get('events', []))}")


_VALUES = (
    *(
        "",
        "0",
        "1",
        "-1",
        "1e999",
        "nan",
        "inf",
        "9" * 400,
        "true",
        "none",
        "null",
        "{}",
        "[]",
        "[1]",
        '"x"',
        "{",
        "[" * 3_000,
    ),
    *(
        "okx",
        "okx,bybit-linear",
        "https://a.example",
        "wss://a.example:port",
        "http://[::1",
        "http://[",
        "https://a b/",
        "http://",
    ),
    *('{"okx":{"rest_url":"https://a.example:99999","websocket_url":"wss://[::"}}', '{"okx":{}}', '{"okx":[]}', '{"":""}'),
    *('{"mempool":"https://%zz.example"}', '{"mempool":"https://' + "x" * 300 + '/"}', '{"mempool":"http://\\u0000"}'),
    *(
        "/",
        "/dev/null",
        "~nobody-there/x",
        "~",
        "a" * 5_000,
        "é",
        "\udcff",
        "٣",
        "finalized",
        "64",
        "65",
        " 3 ",
        "1_0",
        "0x10",
    ),
)


class _SettingsSource:
    """Environments, and files that they name."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        keys = [line.split("`")[1] for line in markdown().splitlines() if line.startswith("| `")]
        self._keys = [key for key in keys if "VENUE" not in key] + ["endpoints", "chain", "mining", "parameters", "x", "sink"]
        lines: list[str] = []
        for table in dict.fromkeys(key.rpartition(".")[0] for key in keys if "." in key and "VENUE" not in key):
            lines.append(f"[{table}]")
            lines += [f"{key.rpartition('.')[2]} = 1" for key in keys if key.rpartition(".")[0] == table]
        toml = "\n".join(lines)
        self._mutator = Mutator([toml.encode()], [], chance)

    def make(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.2:  # noqa: PLR2004 - files are one way among two
            return b"#file\n" + self._mutator.frame()
        count = chance.choice((1, 1, 2, 4))
        variables = {chance.choice(self._keys).upper().replace(".", "__"): chance.choice(_VALUES) for _ in range(count)}
        return b"#variables\n" + json.dumps(variables).encode()

    def keep(self, data: bytes, answer: Answer) -> None:
        if data.startswith(b"#file"):
            self._mutator.keep(data.partition(b"\n")[2], is_understood=not answer.refused)


def take_settings(data: bytes) -> Answer:
    """Load settings, and describe what they lead to. Raises what is no ``SettingsError``."""
    kind, _, said = data.partition(b"\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, clean, clear=True):
        if kind == b"#file":
            file = Path(folder) / "settings.toml"
            file.write_bytes(said)
            os.environ[CONFIG_VARIABLE] = str(file)
        else:
            for name, value in _variables(said).items():
                os.environ[f"{ENV_PREFIX}{name}"] = value
        try:
            collection_of(load_settings())
        except SettingsError as refusal:
            return Answer(1, 1, kind_of(refusal)[:60])
    return Answer(1, 0, "")


def _variables(said: bytes) -> dict[str, str]:
    try:
        given = json.loads(said)
    except ValueError:  # a shortened crash file
        return {}
    return {
        name: value
        for name, value in (given.items() if isinstance(given, dict) else ())
        if isinstance(value, str) and "\x00" not in f"{name}{value}" and "=" not in name
    }


def _days_source(chance: random.Random) -> _PieceSource:
    days = "\n".join(f"2024-01-{day:02d},{40_000 + day},72006146478567.1" for day in range(1, 32))
    asked = ["2024-01-31", "2024-01-02", "2009-01-03", "x", "0001-01-01"]
    return _PieceSource(chance, asked, [f"date,price_usd,difficulty\n{days}".encode()])


def take_days(data: bytes) -> Answer:
    """Compute a day from a file. Raises what is no ``HistoryError``."""
    day, _, content = data.partition(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "days.csv"
        file.write_bytes(content)
        try:
            json.dumps(read_miner_day(file, day.decode(errors="replace")), allow_nan=False)
        except HistoryError:
            return Answer(1, 1, "refused")
    return Answer(1, 0, "")


COMMAND_LINE = Target("command-line", _command_line_source, take_line)
SETTINGS = Target("settings", _SettingsSource, take_settings)
DAYS = Target("days", _days_source, take_days)
