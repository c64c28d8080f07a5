"""Real clusters of real processes, driven as people and operators do: by the command line, HTTP and the socket."""
