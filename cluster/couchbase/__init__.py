"""Setting up the Couchbase cluster that a world is kept in."""
