"""All that is fuzzed, by name."""

from __future__ import annotations

from fuzzing.events import MACHINES
from fuzzing.frames import frame_targets
from fuzzing.outside import ANSWERS, NODE
from fuzzing.people import COMMAND_LINE, DAYS, SETTINGS
from fuzzing.sequences import FLOW
from fuzzing.target import Target

PARSERS = "parser/"

TARGETS: dict[str, Target] = {
    target.name: target for target in (*frame_targets(), FLOW, MACHINES, ANSWERS, NODE, COMMAND_LINE, SETTINGS, DAYS)
}


def target_of(kept: str) -> Target:
    """Return the target that a kept input is for: its folder."""
    return TARGETS[kept.rpartition("/")[0]]
