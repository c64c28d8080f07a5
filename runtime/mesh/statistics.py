"""Counters of one mesh, plain integers on the hot path, read by ``metrics`` when somebody scrapes."""

from dataclasses import dataclass


@dataclass(slots=True)
class MeshStatistics:
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    frame_bytes_in: int = 0
    frame_bytes_out: int = 0
    frames_unheard: int = 0  # not sent, because nobody listens
    frames_of_dead: int = 0  # received from a publisher that is dead or replaced
    malformed: int = 0  # bytes that are no envelope, or no message of the table
    misdirected: int = 0  # meant for another node or generation
    of_dead: int = 0  # from a dead generation, dropped
    unhandled: int = 0  # no handler for the type
    strangers: int = 0  # calls of nodes not in the book: no way to answer
    calls: int = 0
    retries: int = 0
    deadlines: int = 0
    late_replies: int = 0
    repeated: int = 0  # calls answered from memory, joined or refused as settled
    handler_errors: int = 0
    handlers_refused: int = 0  # HANDLERS_IN_FLIGHT reached
    outbox_refused: int = 0  # outbox full
    outbox_expired: int = 0
    outbox_settled: int = 0  # calls given up before they left
    outbox_dropped: int = 0  # the peer was replaced or died with these in its outbox
    held: int = 0  # not sent, because this process must not speak now
    pauses: int = 0
    conflicts: int = 0  # processes of a dead generation, or of my id, that were told so
    bad_endpoints: int = 0
    book_full: int = 0
    foreign: int = 0  # heartbeats and joins of who speaks no protocol version of mine
