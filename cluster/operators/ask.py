"""What the verbs of operators share: flags to a cluster that can be asked."""

from pathlib import Path

from cluster.operators.api import Cluster, Json
from cluster.operators.found import find
from runtime.settings import read_settings


def cluster(data: Path | None, ops: str | None, token_file: Path | None) -> Cluster:
    """Raises SettingsError, CannotAsk."""
    return Cluster(find(read_settings(data=data, ops_url=ops, ops_token_file=token_file)))


def nodes(asked: Cluster) -> Json:
    """The list of nodes; the listeners in it are remembered, to turn to when this one goes."""
    document = asked.get("/v1/ops/nodes")
    asked.learn([node["endpoints"]["ops"] for node in document["nodes"] if "ops" in node["endpoints"]])
    return document
