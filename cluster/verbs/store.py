"""``projectk store``: run the store."""

from cluster import options as o
from cluster.verbs.alone import run_alone


def store(
    node_id: o.NodeId = None,
    join: o.Join = None,
    data: o.Data = None,
    store: o.Store = None,
    bind_host: o.BindHost = None,
    command_port: o.CommandPort = None,
    store_port: o.StorePort = None,
    advertise_command: o.AdvertiseCommand = None,
    advertise_store: o.AdvertiseStore = None,
    metrics_host: o.MetricsHost = None,
    metrics_port: o.MetricsPort = None,
    log_level: o.LogLevel = None,
    log_file: o.LogFile = None,
) -> None:
    """Run the store: the one process that owns the database file.

    Everything durable goes through it. One store per cluster.
    Prints one JSON line on stdout when it is ready; Ctrl-C stops it.

    Examples:

      projectk store --data /srv/world --join tcp://127.0.0.1:7001
    """
    run_alone("store", locals())
