"""``projectk broker``: run one broker."""

from cluster import options as o
from cluster.verbs.alone import run_alone


def broker(
    node_id: o.NodeId = None,
    join: o.Join = None,
    bind_host: o.BindHost = None,
    command_port: o.CommandPort = None,
    advertise_command: o.AdvertiseCommand = None,
    metrics_host: o.MetricsHost = None,
    metrics_port: o.MetricsPort = None,
    log_level: o.LogLevel = None,
    log_file: o.LogFile = None,
) -> None:
    """Run one broker: it exchanges the members' addresses, nothing more.

    Members keep what they know when every broker is gone; give brokers a fixed port, so that members find them again.
    Prints one JSON line on stdout when it is ready; Ctrl-C stops it.

    Examples:

      projectk broker --id br1 --command-port 7001

      projectk broker --id br2 --command-port 7002 --join tcp://127.0.0.1:7001
    """
    run_alone("broker", locals())
