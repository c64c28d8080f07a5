"""Chaos on real processes: a cluster under bots, a nemesis that breaks it, and checkers that judge afterwards.

::

    worker ×N (bots) ──history, JSON lines──┐
    nemesis (kill, stop, partition, …) ─────┼──> checks ──> problems (none is the only good answer)
    store file, read once a second ─────────┘    figures ──> p50/p99/max of each fault against its bound

Nothing is judged while it runs: the history says what clients asked and heard, the store says what is so.
"""
