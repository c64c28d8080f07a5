"""The operators' REST interface: a listener of its own on each gateway, on the loopback, behind a bearer token.

::

    curl, projectk status ──HTTP──> listener (token) ──> nodes, entities, deployments ──mesh──> any process
                                        └──────────────> events <── the gateway's ring of notes

Every gateway answers for the whole cluster. docs/protocol/11 is its contract.
"""
