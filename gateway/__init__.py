"""The gateway: holds the clients' sockets, so that game servers may come and go behind it.

A message's way in: ``headers`` (HTTP request, deadline, caps) → ``websocket`` (frames to messages) → ``session`` (pure:
what a message means) → ``client`` (does what the session said, over the mesh). The way out: cell frames → ``mirror`` →
``fanout`` → one chunk per client. ``app`` puts the parts together.
"""
