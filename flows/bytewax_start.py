"""How the dataflow starts under the tools of Bytewax itself, alone or as one process of a cluster."""

from __future__ import annotations

from contextlib import ExitStack

from bytewax.dataflow import Dataflow

from flows.cluster import NothingToRead, WrittenElsewhere, end_when_stalled, position
from flows.runtime import Runtime
from flows.settings import load_settings
from flows.stopping import Phase, stopped_by_signals


def flow_for_bytewax(around: ExitStack) -> Dataflow:
    """Return the dataflow of the settings in the environment, for this process's place in a cluster, if there is one.

    Args:
        around: Takes what has to be done when the dataflow has ended.

    Raises:
        SettingsError: A setting is wrong.
        ClusterError: The cluster cannot be run like this.
        DataDirectoryError: The data directory is in use or cannot be written.
        ShardsError: This shard cannot begin now.
        DeltaTablesError: The tables cannot be reached, or are not this program's.
    """
    settings, place = load_settings(), position()
    runtime = around.enter_context(Runtime(settings, position=place))
    runtime.phase = Phase.RUNNING  # as far as can be told from here
    if not place.is_alone:
        end_when_stalled(runtime.health, settings.cluster_patience_seconds)
    if not place.is_outside:
        around.enter_context(stopped_by_signals(runtime))
        runtime.push_alerts()  # of the assets that fall to it
        return runtime.flow(NothingToRead(), WrittenElsewhere())
    tables = runtime.tables_sink()
    around.callback(runtime.drain, tables)
    around.enter_context(stopped_by_signals(runtime, tables))
    return runtime.flow(runtime.live_source(tables), tables)
