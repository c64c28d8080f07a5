"""Bots: real protocol clients, in worker processes, and the report of what they saw.

``client`` speaks the protocol (tests use it too), ``behaviour`` decides, ``worker`` runs many in one process,
``fleet`` starts the workers and sums up, ``report`` prints.
"""
