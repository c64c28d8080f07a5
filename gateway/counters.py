"""What a gateway counts, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Counters:
    """Every refused, ignored or doubled input has a counter; so has every close, by its code's name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"projectk_gateway_{name}", text, labels, registry=registry)

        self.closes = counter("closes", "Sockets closed by the gateway, by close code", "code")
        self.refused = counter("upgrades_refused", "WebSocket upgrades refused before 101", "reason")
        self.bad_input = counter("bad_input", "Client input refused, ignored or doubled", "kind")
        self.messages = counter("client_messages", "Whole messages from clients", "kind")
        self.text, self.binary = self.messages.labels("text"), self.messages.labels("binary")
        self.leveled = counter("leveled", "Clients asked to go on at another gateway, which has fewer")
        self.attaches = counter("attaches", "Answers to attach", "answer")
        self.commands = counter("commands", "Answers to commands", "answer")
        self._commands: dict[str, Counter] = {}  # of each answer: as few as there are message types and problem codes
        self.http_refused = counter("http_refused", "HTTP connections or requests refused", "reason")
        self.clients = Gauge("projectk_gateway_clients", "Open game sockets", registry=registry)
        self.sessions = Gauge("projectk_gateway_sessions", "Sockets that have a session", registry=registry)
        self.flow = Gauge(
            "projectk_gateway_flow", "Slices, chunks, bytes, skips, moves so far", ["what"], registry=registry
        )
        self.mirror = Gauge("projectk_gateway_mirror", "Size of the byte mirror", ["what"], registry=registry)

    def command_answered(self, answer: str) -> None:
        """To find a label's counter costs as much as ten increments: each is found once."""
        found = self._commands.get(answer)
        if found is None:
            found = self._commands[answer] = self.commands.labels(answer)
        found.inc()
