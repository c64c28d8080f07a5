"""``projectk gameserver``: run one game server."""

from cluster import options as o
from cluster.verbs.alone import run_alone


def gameserver(
    node_id: o.NodeId = None,
    join: o.Join = None,
    state_port: o.StatePort = None,
    advertise_state: o.AdvertiseState = None,
    world_seed: o.WorldSeed = None,
    placement: o.Placement = None,
    balance: o.Balance = None,
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
    """Run one game server; it joins a running cluster and takes its share.

    It owns avatars and regions, runs their rules, publishes what others see. --join takes a broker or any member.
    Prints one JSON line on stdout when it is ready; Ctrl-C stops it.

    Examples:

      projectk gameserver --id gs4 --join tcp://127.0.0.1:7001
    """
    run_alone("gameserver", locals())
