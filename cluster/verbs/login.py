"""``projectk login``: run one login server."""

from cluster import options as o
from cluster.verbs.alone import run_alone


def login(
    node_id: o.NodeId = None,
    join: o.Join = None,
    placement: o.Placement = None,
    avatars_per_server: o.AvatarsPerServer = None,
    store: o.Store = None,
    bind_host: o.BindHost = None,
    command_port: o.CommandPort = None,
    advertise_command: o.AdvertiseCommand = None,
    metrics_host: o.MetricsHost = None,
    metrics_port: o.MetricsPort = None,
    log_level: o.LogLevel = None,
    log_file: o.LogFile = None,
) -> None:
    """Run one login server: guests, tokens, placement.

    Any login answers; run two, so that one may die.
    Prints one JSON line on stdout when it is ready; Ctrl-C stops it.

    Examples:

      projectk login --id lg1 --join tcp://127.0.0.1:7001
    """
    run_alone("login", locals())
