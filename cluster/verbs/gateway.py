"""``projectk gateway``: run one gateway."""

from cluster import options as o
from cluster.verbs.alone import run_alone


def gateway(
    node_id: o.NodeId = None,
    join: o.Join = None,
    host: o.Host = None,
    port: o.GatewayPort = None,
    public_origins: o.PublicOrigins = None,
    trusted_proxies: o.TrustedProxies = None,
    advertise_http: o.AdvertiseHttp = None,
    ops_host: o.OpsHost = None,
    ops_port: o.OpsPort = None,
    ops_token_file: o.OpsTokenFile = None,
    data: o.Data = None,
    store: o.Store = None,
    world_seed: o.WorldSeed = None,
    bind_host: o.BindHost = None,
    command_port: o.CommandPort = None,
    advertise_command: o.AdvertiseCommand = None,
    log_level: o.LogLevel = None,
    log_file: o.LogFile = None,
) -> None:
    """Run one gateway: it serves the web client and holds the players' sockets.

    Any gateway resumes any session, and any gateway answers operators (projectk status --help) for the whole cluster.
    Prints one JSON line on stdout when it is ready; Ctrl-C stops it.

    Examples:

      projectk gateway --id gw1 --port 8080 --join tcp://127.0.0.1:7001

      projectk gateway --id gw3 --port 0 --join tcp://127.0.0.1:7001
    """
    run_alone("gateway", locals())
