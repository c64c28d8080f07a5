"""Which address of this machine to listen on, said as a network, and a node's number by its address.

Where processes are multiplied (replicas of one container), none of them can be told its own address or id in advance.
They are told their network instead: ``10.77.0.0/22`` stands for this machine's address in it, and the node id ``auto``
for the role's prefix and the place of that address in the network: 10.77.1.4 is ``gs260``. Two living processes cannot
have one address, so no two of a role have one id; a replica that comes back under another address is another node.
"""

import socket
from ipaddress import IPv4Interface, IPv4Network

from runtime.settings import AUTO, Settings, SettingsError
from world.ids import ROLE_PREFIX
from world.limits import NODE_NUMBERS

_ANY_PORT = 9  # nothing is sent there: connecting a UDP socket only asks the routing table


def own_address(said: str) -> str:
    """``10.77.0.0/22`` → this machine's address in that network, ``10.77.0.9/22`` → 10.77.0.9, an address or a name →
    itself. Raises SettingsError where this machine has no address there."""
    if "/" not in said:
        return said
    interface = IPv4Interface(said)
    if interface.ip != interface.network.network_address:
        return str(interface.ip)
    return _routed(interface.network)


def placed(settings: Settings, role: str) -> Settings:
    """The settings with addresses for networks, and with a node id; safe to repeat. Raises SettingsError."""
    bind_host = own_address(settings.bind_host)
    return settings.model_copy(
        update={
            "node_id": _node_id(settings, role, bind_host),
            "bind_host": bind_host,
            "ops_host": own_address(settings.ops_host),
            "metrics_host": own_address(settings.metrics_host),
        }
    )


def _node_id(settings: Settings, role: str, address: str) -> str:
    if settings.node_id != AUTO:
        return settings.node_id or f"{ROLE_PREFIX[role]}1"
    if "/" not in settings.bind_host:
        raise SettingsError("--id auto: needs --bind-host as a network, like 10.77.0.0/22, to count the addresses in.")
    network = IPv4Interface(settings.bind_host).network
    number = int(IPv4Interface(address).ip) - int(network.network_address)
    if not 0 < number <= NODE_NUMBERS:
        raise SettingsError(
            f"--id auto: {address} is number {number} in {network}, and ids go from 1 to {NODE_NUMBERS}; use a network "
            f"of at most 8,190 addresses (/19)."
        )
    return f"{ROLE_PREFIX[role]}{number}"


def _routed(network: IPv4Network) -> str:
    """The address from which this machine would send to that network, which must be in it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(network.network_address + 1), _ANY_PORT))
            address = str(probe.getsockname()[0])
        except OSError as error:
            raise SettingsError(f"This machine has no address in {network} ({error.strerror}).") from error
    if IPv4Interface(address).ip not in network:
        raise SettingsError(f"This machine has no address in {network}; it would send there from {address}.")
    return address
