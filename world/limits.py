"""Every bound and timeout of the system, each named with its unit, in one place.

Change one by measurement and write the figure down in ``docs/performance.md``.
Names end in their unit: ``_MS`` milliseconds, ``_S`` seconds, ``_M`` metres, ``_BYTES``, ``_PER_S``, or a plain count.
"""

from typing import Final

# -- the world and its grid ------------------------------------------------------------------------------------------
WORLD_M: Final = 8192
CELL_M: Final = 128  # a pub/sub channel
SUBCELL_M: Final = 32  # a slice inside a channel: what one client message carries
REGION_M: Final = 256  # a unit of ownership for everything that is not an avatar
SIGHT_M: Final = 50.0  # radius of an avatar's sight
SIGHT_HYSTERESIS_M: Final = 32.0  # left only this far beyond sight; one sub-cell, so that its border may be walked on
SIGHT_CACHE_SUBCELLS: Final = 65_536  # places whose sight is kept: all of the world
REACH_M: Final = 4.0  # how far an avatar's hands reach

# -- the tick and motion ----------------------------------------------------------------------------------------------
TICK_MS: Final = 100
WALK_SPEED_M_PER_S: Final = 6.0
SPEED_TOLERANCE: Final = 1.10  # a claimed path may be this much longer than speed x time (clock jitter)
MOVE_SLACK_M: Final = 1.5  # beyond the tolerance: jitter of one tick and of the network
MOVE_BUDGET_MS: Final = 1_000  # unused walking time a client may save up while the network stalls
EXTRAPOLATION_ERROR_M: Final = 0.25  # a record is sent when extrapolation errs by more
ECHO_EVERY_MS: Final = 250  # and at least this often while inputs are unacknowledged
INPUT_SILENCE_STOP_MS: Final = 1_500  # a mover whose client says nothing stops
INPUT_RESEND_WINDOW_MS: Final = 1_000
CLAIM_AHEAD_MS: Final = 250  # a claimed time may be this far in the owner's future; beyond, it is held back
VELOCITY_CHANGE_M_PER_S: Final = 0.05  # a smaller change waits until extrapolation errs
WALK_SAMPLE_M: Final = 1.0  # a claimed path is checked for walkability at least this often
MOVE_ROWS_PENDING: Final = 20_000  # rows a game server keeps for its next tick; beyond it the newest are dropped
VIEW_RESEND_MS: Final = 2_000  # a view is sent again at least this often: one-way messages may be lost
CHANGES_PER_TICK: Final = 20_000  # leaves and property changes named per tick; beyond it cells are taken by snapshot
PROPERTY_BYTES: Final = 8_192  # one group's JSON
AREA_EVENT_BYTES: Final = 4_096
AREA_EVENTS_PER_TICK: Final = 2_000  # beyond it the newest are dropped
STATE_ASKS_QUEUED: Final = 4_096  # per publisher; beyond it the newest is dropped and asked again later
STATE_ASK_WORKERS: Final = 4  # snapshots and repairs in flight per publisher
STATE_TICK_MS: Final = 50  # how often a gateway's channels look at their deadlines
HIDE_AFTER_LEAVE_MS: Final = 500

# -- the state plane ---------------------------------------------------------------------------------------------------
DIGEST_MS: Final = 250
DIGEST_RECENT_MS: Final = 2_000  # a digest lists cells non-empty within this time
REPAIR_RING_MS: Final = 2_000
REPAIR_RING_FRAMES: Final = 64  # per cell, oldest dropped
REPAIR_AFTER_MS: Final = 250  # a row ahead of what was applied for this long starts a repair
JOIN_RETRY_MS: Final = 500
JOIN_BUFFER_FRAMES: Final = 64  # per (publisher, cell), before its snapshot; overflow: ask for the snapshot again
STALE_AFTER_MS: Final = 750
PUBLISHER_RECONNECT_MS: Final = 3_000
PUBLISHER_HIDE_MS: Final = 5_000
CELL_LEAVE_MS: Final = 2_000  # a channel no longer in sight is left after this time
MIRROR_DELTA_BYTES: Final = 64 * 1024  # per (publisher, cell) at a gateway; beyond it a fresh snapshot is asked for
STATE_SEND_HWM_FRAMES: Final = 20_000  # about 2 s of one publisher's traffic; a full queue drops the newest
STATE_FRAME_BYTES: Final = 1 << 20

# -- the command plane -------------------------------------------------------------------------------------------------
HEARTBEAT_MS: Final = 500
SUSPECT_AFTER_MS: Final = 1_500
DEATH_AFTER_MS: Final = 3_000
LOOP_LATE_MS: Final = 500  # whose own loop stood still for longer is no judge of others' silence before that time
LOOP_PAUSE_MS: Final = 1_000  # a game server whose loop paused longer re-reads its record before it speaks
RPC_DEADLINE_MS: Final = 3_000
RPC_RETRY_MS: Final = 400  # the origin sends again, same key, until reply or deadline
PEER_OUTBOX_MESSAGES: Final = 10_000  # per peer; a full outbox refuses the newest with Unreachable
COMMAND_SEND_HWM_MESSAGES: Final = 2_000
COMMAND_MESSAGE_BYTES: Final = 4 << 20
LINK_BATCH_MESSAGES: Final = 64  # to one peer in one turn of the loop, handed to ZeroMQ as one
LINK_BATCH_BYTES: Final = 64 * 1024
CALLS_IN_FLIGHT: Final = 20_000
BOOK_MEMBERS: Final = 1_000
BROKER_FORGET_MS: Final = 5_000  # a member silent for longer leaves the book's live part
JOIN_ANSWER_MS: Final = 1_000
CLOCK_SLEW_MS_PER_S: Final = 50  # world time is never stepped by more once running
PEER_OUTBOX_BYTES: Final = 64 << 20  # per peer, what ZeroMQ did not take yet
OUTBOX_EXPIRE_MS: Final = 5_000  # a one-way message that waited longer in the outbox is dropped
RPC_SWEEP_MS: Final = 20  # grain at which retries and deadlines are looked at
REPLY_MEMORY_CALLS: Final = 20_000  # per origin, answered or running; beyond it the oldest is forgotten
HANDLERS_IN_FLIGHT: Final = 10_000  # asynchronous handlers of one process; beyond it a call is dropped, its retry comes
STRAY_LINKS: Final = 32  # links to endpoints outside the book (joining, telling a zombie it is dead)
STRAY_LINK_MS: Final = 5_000
JOIN_GRACE_MS: Final = 100  # after a joiner's first answer it waits this long for the others
WORLD_TIME_WAIT_MS: Final = 500  # a joiner waits this long for a first measurement of the cluster's time
CLOCK_SAMPLES: Final = 8  # per peer; the one with the shortest round trip counts
MEMBER_FORGET_MS: Final = 60_000  # a member silent for longer leaves the book; its generation is remembered
BOOK_PUSH_MS: Final = 20  # a broker gathers changes of the book this long before it pushes
BOOK_GOSSIP_MS: Final = 2_000  # each member compares books with one other this often
DEAD_ANSWER_MS: Final = 100  # a dead generation is told so at most this often
PAUSE_PROBE_MS: Final = 100
DRAIN_MESSAGES: Final = 256  # read from one socket before others get their turn
STATE_RECEIVE_HWM_FRAMES: Final = 20_000
ZMTP_HEARTBEAT_MS: Final = 2_000  # finds half-open connections; a hung loop only the asyncio heartbeats find
ZMTP_TIMEOUT_MS: Final = 6_000
RECONNECT_MS: Final = 100
RECONNECT_CAP_MS: Final = 500
MESH_LINGER_MS: Final = 300  # at close, for the last messages
TOPIC_BYTES: Final = 8  # fixed, because topics match by prefix

# -- the durable plane -------------------------------------------------------------------------------------------------
SRV_RENEW_MS: Final = 1_000
OWNED_SHARDS: Final = 8
MOTION_DOCUMENT_MS: Final = 500
WRITE_BEHIND_MS: Final = 250
GROUP_COMMIT_MS: Final = 5  # a group commits once nothing more is queued (to linger only cost latency), or after this
GROUP_COMMIT_WRITES: Final = 512
STORE_QUEUE_WRITES: Final = 8_192  # beyond it the store answers Temporary
STORE_QUEUE_BYTES: Final = 64 << 20  # of keys and values queued; beyond it the store answers Temporary
STORE_QUEUE_READS: Final = 8_192
STORE_PAGE_BYTES: Final = 2 << 20  # of one answer to a read of many; the asker goes on behind it
STORE_PAGE_KEYS: Final = 64  # looked up at once for a page
STORE_CHECKPOINT_PAGES: Final = 4_000  # 16 MiB of write-ahead log are moved into the file between two groups
STORE_CHECK_MS: Final = 1_500  # of looking for corruption before a store opens; a large file is checked in part
STORE_BUSY_MS: Final = 2_000  # waiting for a lock another process holds on the file
STORE_CALL_MS: Final = 2_000
STORE_GIVE_UP_MS: Final = 5_000  # a durable command waits this long, then answers store_unavailable
STORE_KEY_BYTES: Final = 250
STORE_COUNTER_STEPS: Final = (1 << 53) - 1  # tokens and counters stay exact in JavaScript
STORE_CAS_SKIP: Final = 1 << 16  # tokens skipped at each start: more than a lost group can have given away
STORE_VALUE_BYTES: Final = 1 << 20
STORE_MANY_KEYS: Final = 1_000
STORE_LIST_KEYS: Final = 10_000
UNIT_OUTBOX_ENTRIES: Final = 256
UNIT_RESULTS: Final = 128  # operation results kept above the client's floor, per origin
UNIT_ORIGINS: Final = 2_048  # origins (avatars, units) whose operations a unit remembers; beyond it: busy
REGROW_MS: Final = 60_000  # world time in which a node that is not full grows one item back
REGROW_STEPS: Final = 1_000  # more missed steps than this fill any node
NATURAL_REGIONS_CACHED: Final = 256  # contents of regions, the longest unused forgotten
NOISE_STEPS_CACHED: Final = 512  # interpolation weights per (first tile, period): all a world needs
SEEDS_CACHED: Final = 4  # grounds of whole worlds, 4 MiB each
CONTENTS_CACHED: Final = 1
FENCED_UNITS: Final = 65_536  # units whose highest epoch a process remembers; the longest unheard is forgotten
KEY_RETENTION_S: Final = 600  # a settled origin's row may be pruned from a unit after this
INTEREST_MS: Final = 1_000
WAKE_WAIT_MS: Final = 2_000  # how long a command waits for its target's region to be woken
REGION_IDLE_S: Final = 30
AVATAR_LINGER_S: Final = 30
REDRIVE_MS: Final = 1_000  # an undelivered outbox entry is sent again
STORE_RETRY_MS: Final = 100  # first pause before a store call is tried again; doubled up to the cap, with jitter
STORE_RETRY_CAP_MS: Final = 1_000
MOTION_CACHE_MS: Final = 2_000  # a dead server's motion document is read again after this
MOTION_CACHED_DOCUMENTS: Final = 16
LINGER_LOOK_MS: Final = 1_000  # how often idle units and avatars without a client are looked for
UNIT_IDLE_MS: Final = 5_000  # an avatar's unit that nobody attached to (taken for a delivery) is released after this
ELAPSE_MS: Final = 30_000  # how often a unit is told that world time passed
RELEASES_IN_FLIGHT: Final = 256  # units saved at once by a graceful stop
STOP_SAVE_MS: Final = 2_800  # for saving and releasing all units on a graceful stop; below STOP_CALLBACK_MS
STORE_ALONE_MS: Final = 5_000  # a game server whose store calls fail this long while a peer's succeed exits
OWNED_CLEAN_MS: Final = 1_000  # released units leave their owned: list within about this time
TAKES_IN_FLIGHT: Final = 256  # units being taken at once by one server; further ones wait
TAKE_TRIES: Final = 8  # lost CAS races for one unit before the taker answers busy
SWEEP_MS: Final = 2_000  # how often owned: lists of dead generations are looked for
SWEEP_DELAY_MS: Final = 3_000  # after a verdict: time for those who need a unit to take it first
SWEEP_UNITS_PER_S: Final = 100
HANDOFFS_IN_FLIGHT: Final = 16  # units one server gives away at once, and as many as it takes
HANDOFF_SETTLE_MS: Final = 1_000  # the owner's writes must be resolved by then, else it serves on
HANDOFF_COMMIT_MS: Final = 800  # each of the next owner's two writes; then it refuses
HANDOFF_OFFER_MS: Final = 2_000  # the owner waits for the answer; longer than both writes
HANDOFF_SIGHT_MS: Final = 5_000  # the next owner listens to what is seen from there, ahead of the avatar
HANDOFF_STOP_MS: Final = 1_000  # a stopping server waits for those in flight
REDRIVE_CAP_MS: Final = 8_000  # the pause before a delivery is tried again, doubled from REDRIVE_MS
DELIVERIES_IN_FLIGHT: Final = 16  # per giving unit
LOCATIONS: Final = 20_000  # remembered owners of other servers' units; the oldest are forgotten
RETRY_AFTER_MS: Final = 100  # pause before a moved, busy or unreachable call is tried again
COMMAND_DEADLINE_MS: Final = 5_000
COMMAND_MUTATOR_CALLS: Final = 16  # mutator calls of one command
AVATARS_PER_SERVER: Final = 2_000
REGIONS_PER_SERVER: Final = 1_024

# -- sessions ----------------------------------------------------------------------------------------------------------
CLIENT_HEARTBEAT_MS: Final = 5_000
CLIENT_SILENCE_MS: Final = 15_000
HANDSHAKE_MS: Final = 5_000  # from TCP accept to the end of the HTTP request, and again from upgrade to identify
CLIENT_MESSAGE_BYTES: Final = 4_096
CLIENT_FRAGMENTS: Final = 8
HTTP_HEADER_BYTES: Final = 16 * 1024
HTTP_BODY_BYTES: Final = 16 * 1024
CLIENT_MESSAGES_PER_S: Final = 60
CLIENT_MESSAGES_BURST: Final = 120
CLIENT_COMMANDS_IN_FLIGHT: Final = 32
CLIENT_BUFFER_BYTES: Final = 256 * 1024  # above it a client is skipped and later served a fresh snapshot
CLIENT_BUFFER_CLOSE_BYTES: Final = 1 << 20
CLIENT_SLOW_CLOSE_MS: Final = 10_000  # skipped for this long: closed with too_slow
CLIENT_CLOSE_MS: Final = 2_000
CLIENTS_PER_GATEWAY: Final = 5_000
EVENT_RING_S: Final = 30
EVENT_RING_EVENTS: Final = 512
EVENT_RING_BYTES: Final = 256 * 1024
SAY_CHARACTERS: Final = 200
ATTACH_RETRY_MS: Final = 250
ATTACH_PASSES: Final = 1
VIEW_MOVE_M: Final = 4.0  # an owner sends a new view when its avatar moved this far

# -- the gateway -------------------------------------------------------------------------------------------------------
GATEWAY_FLUSH_MS: Final = 20  # moves to game servers and slices to clients leave in one chunk this often
SESSION_SWEEP_MS: Final = 50  # granularity of a session's deadlines
MOVE_BATCH_BYTES: Final = 1 << 20  # of move rows to one game server; a fuller batch leaves before the flush
ATTACH_CALL_MS: Final = 1_500
ATTACH_RETRY_CAP_MS: Final = 2_000
ATTACH_REDIRECTS: Final = 4  # ``moved`` answers followed at once, then with ATTACH_RETRY_MS
BUSY_RETRY_MS: Final = 100
COMMAND_CALL_MS: Final = 6_000  # one attempt at the owner; the command itself is kept until its result
COMMAND_RETRY_MS: Final = 250
EARLY_EVENTS_MESSAGES: Final = 64  # that overtook their ``attached``; overflow: the oldest is asked again
INPUT_ROWS_KEPT: Final = 256  # per client, newest kept
EVENT_TAIL_CHECK_MS: Final = 5_000  # a lost last event is asked for this long after
OPEN_SESSION_MS: Final = 5_000
OWNER_SILENT_MS: Final = 3_500  # suspected for this long, dead or not: its clients are told and attached anew
MIRROR_OVERFLOW_BYTES: Final = 4 * MIRROR_DELTA_BYTES  # per (publisher, cell); beyond it newcomers wait
MIRROR_REFRESHES_IN_FLIGHT: Final = 16
KEYS_REFRESH_MS: Final = 1_000  # an unknown signing key is asked for at most this often
PUBLIC_KEYS: Final = 1_000
OBSERVE_MS: Final = 500
OBSERVE_EVENTS: Final = 32  # of the newest notes, in every picture: who comes late or misses pictures sees them too
OBSERVERS_PER_GATEWAY: Final = 100
OBSERVER_PICTURES: Final = 1  # waiting for one observer; a newer one replaces it
HTTP_REQUEST_MS: Final = 5_000  # a request must be whole this long after its first byte
HTTP_STALL_MS: Final = 15_000  # a client that reads nothing of its answer for this long is cut off
GATEWAY_LOAD_MS: Final = 1_000
GATEWAY_DRAIN_NOTICE_MS: Final = 250  # between being told and the first close: time to learn where else to go
GATEWAY_DRAIN_CLIENTS_PER_S: Final = 100  # sent elsewhere by a drain, unless there are so many that
GATEWAY_DRAIN_SPREAD_MS: Final = 10_000  # would not suffice; below DRAIN_MS
HTTP_PIPELINED_REQUESTS: Final = 8
HTTP_BACKLOG_CONNECTIONS: Final = 1_024  # connections the kernel holds for us
HTTP_ACCEPTS_PER_TURN: Final = 16  # connections taken in one turn of the loop
HTTP_LOGIN_MS: Final = 4_000  # a guest or refresh request waits this long for a login
GUESTS_PER_S: Final = 20  # per client address; generous, because a school shares one address
GUESTS_BURST: Final = 1_000
GUEST_ADDRESSES: Final = 10_000  # least recently seen forgotten

# -- operators -------------------------------------------------------------------------------------------------------
NOTE_BYTES: Final = 2_048  # one note's detail as JSON; a longer one is left out, and said so
OPS_EVENTS_KEPT: Final = 1_000  # notes per gateway; the oldest makes room
OPS_READERS: Final = 20  # of the event stream, per gateway
OPS_KEEP_ALIVE_MS: Final = 10_000  # a quiet event stream says that it is still there
OPS_TOKEN_BYTES: Final = 32  # of chance
OPS_CALL_MS: Final = 5_000  # an operator's request waits this long for the process that it concerns
OPS_HAND_OFF_MS: Final = 10_000  # and this long for a unit that is busy
OPS_REDIRECTS: Final = 4  # ``moved`` answers followed at once
OPS_BACKLOG_CONNECTIONS: Final = 64
OPS_CLI_CONNECT_S: Final = 2
OPS_CLI_READ_S: Final = 15  # above OPS_HAND_OFF_MS
OPS_CLI_LOOK_S: Final = 0.5  # how often a drain or a deployment is looked at
OPS_CLI_WATCH_S: Final = 1
OPS_CLI_SILENCE_S: Final = 60  # following a deployment, nobody answered for so long
OPS_CLI_NOTES_SEEN: Final = 5_000  # told before by another gateway; the oldest are forgotten

# -- accounts ----------------------------------------------------------------------------------------------------------
ACCESS_TOKEN_S: Final = 900
REFRESH_TOKEN_S: Final = 90 * 24 * 3600
RESUME_TOKEN_S: Final = 24 * 3600
REFRESH_GRACE_S: Final = 300  # a used refresh token answers again (lost answer) while its successor is unused
TOKEN_LEEWAY_S: Final = 30
LOGIN_WRITE_TRIES: Final = 5
END_SESSION_MS: Final = 1_500  # a logout waits this long for the avatar's owner; below a login's share of HTTP_LOGIN_MS
TOKEN_BYTES: Final = 32  # of chance in a refresh token
PLACEMENT_MEMORY_MS: Final = 5_000  # how long a login counts its own recent placements
PLACEMENTS_REMEMBERED: Final = 1_000  # own placements a placer counts; the oldest forgotten first

# -- the cluster -------------------------------------------------------------------------------------------------------
READY_MS: Final = 30_000  # from its start, a process may take this long until its ready line
STOP_MS: Final = 9_000  # the whole cluster, from the first Ctrl-C
PROCESS_STOP_MS: Final = 4_000  # one process: all its on_stop callbacks together; then it is cancelled
STOP_CALLBACK_MS: Final = 3_000  # one on_stop callback
DRAIN_GIVE_MS: Final = 25_000  # of it, a game server begins hand-offs
DRAIN_ROUND_MS: Final = 200  # pause before what was not taken is offered again, elsewhere
DRAIN_TRIES: Final = 5  # offers of one unit; then it is saved and released
DRAIN_MS: Final = 30_000  # one process gives away what it has; what is left then is saved and released
DRAIN_SETTLE_MS: Final = 300  # calls that others began before they heard of the drain still come in
ORPHAN_EXIT_MS: Final = 6_000  # after its supervisor vanished, a process that cannot stop gracefully is ended
LOOP_LAG_SAMPLE_MS: Final = 250
SERVICE_TASKS: Final = 20_000  # living tasks of one service; spawn beyond it is refused
STOP_STAGE_MS: Final = {"gateway": 2_000, "gameserver": 3_500, "login": 1_000, "store": 2_000, "broker": 500}
READY_LINE_BYTES: Final = 64 * 1024
STDERR_TAIL_BYTES: Final = 4_096  # of a child that ended early, searched for its last words
RESTART_BACKOFF_MS: Final = 250  # doubled by each death that follows soon, up to the cap
RESTART_SETTLED_MS: Final = 10_000  # a process that lived this long starts over with the first backoff
RESTART_BACKOFF_CAP_MS: Final = 8_000
LOG_FILE_BYTES: Final = 10 << 20
LOG_FILES: Final = 3

# -- bots ------------------------------------------------------------------------------------------
BOT_MOVE_MS: Final = 200  # five inputs a second
BOT_LOGINS_PER_S: Final = 20  # unless --rate says otherwise
BOT_HTTP_S: Final = 10
BOT_HTTP_CONNECTIONS: Final = 16  # per worker process
BOT_CONNECT_S: Final = 10  # from the TCP connect to attached
BOT_COMMAND_S: Final = 12  # a command without a result for longer counts as an error
BOT_GATHER_EVERY_S: Final = 8
BOT_SAY_EVERY_S: Final = 30
BOT_LEASH_M: Final = 20.0  # how far from its own place a bot wanders
BOT_CROWD_M: Final = 15.0  # --crowd: everyone's place is this close to the spawn
BOT_OTHERS_IN_SIGHT: Final = 10  # without --crowd the bots spread until each sees about this many
BOT_OBSERVERS_PER_WORKER: Final = 12  # bots that decode all they see; the others count bytes
BOT_INPUTS_PENDING: Final = 64  # per bot, not yet seen by an observer; beyond it the oldest counts as never seen
BOT_UNSEEN_MS: Final = 5_000  # an input seen by nobody for so long is not waited for
BOT_EVENTS: Final = 256  # a client remembers its last events
BOT_FRAME_BYTES: Final = 4 << 20
BOT_WORKER_BOTS: Final = 250  # a worker process is started for each so many
BOT_RECONNECT_MS: Final = 200  # doubled by each failure, up to the cap
BOT_RECONNECT_CAP_MS: Final = 5_000
BOT_SHOWN_M: Final = 82.0  # about how far a client is shown others: sight, hysteresis, half a sub-cell
BOT_WATCHED_M: Final = 35.0  # an input made within this distance of an observer is waited for
BOT_IN_SIGHT_MS: Final = 1_000  # a bot walks: it is in an observer's sight if a record of it came within this time
BOT_REPORT_MS: Final = 1_000
BOT_STOP_S: Final = 10
BOT_WARMUP_SLACK_S: Final = 5
BOT_REPORT_LINE_BYTES: Final = 8 << 20

# -- versions ----------------------------------------------------------------------------------------------------------
PROTOCOL_MIN: Final = 1  # of clients
PROTOCOL_MAX: Final = 1
MESH_PROTOCOL_MIN: Final = 1  # between servers; who has none in common with a member is refused
MESH_PROTOCOL_MAX: Final = 1
FORMAT_MIN: Final = 1  # of documents: the oldest this version writes and reads
FORMAT: Final = 1  # and the newest; a step in world.upgrades for each between them
FORMAT_LOOK_MS: Final = 2_000  # how often a process looks whether the cluster has gone on to a newer one
