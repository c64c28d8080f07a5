"""The messages of the store process (``world.messages`` has the table)."""

from world.message_values import U16, U32, U53, BatchedWrite, DocumentKey, Message, Name, Short, Text


class StoreHello(Message, frozen=True, tag=17):
    """The first message of a stream to the store: who opens it, and whom it means. Answer: Ok, or Problem ``stranger``
    (not in the book at that generation) or ``misdirected``, after which the stream ends."""

    node: Short
    generation: U32
    to: Short
    to_generation: U32


class StoreGet(Message, frozen=True, tag=20):
    keys: list[DocumentKey]


class StoreDocs(Message, frozen=True, tag=21):
    """(key, value, cas) of those of the asked keys that exist, as many as fit a page (STORE_PAGE_BYTES): only the
    first ``looked`` keys of the request were looked up, the asker goes on behind them."""

    docs: list[tuple[DocumentKey, bytes, U53]]
    looked: U32 = 0


class StoreWrite(Message, frozen=True, tag=22):
    """op: insert | replace | remove; ``cas`` for the latter two. Answer: StoreCas (remove: Ok); Problem codes are those
    of runtime.store.api. ``generation`` is the store's at the first sending: a store started since then cannot know
    whether its predecessor applied the write, and answers ``ambiguous``."""

    op: Short
    key: DocumentKey
    value: bytes = b""
    cas: U53 = 0
    durability: U16 = 3
    generation: U32 = 0


class StoreCas(Message, frozen=True, tag=23):
    cas: U53


class StoreList(Message, frozen=True, tag=24):
    kind: Short
    after: DocumentKey = ""
    limit: U32 = 1_000


class StoreKeys(Message, frozen=True, tag=25):
    keys: list[DocumentKey]


class StoreCounter(Message, frozen=True, tag=26):
    key: DocumentKey
    delta: U32 = 1
    initial: U53 = 1


class StoreNumber(Message, frozen=True, tag=27):
    value: U53


class StoreSearch(Message, frozen=True, tag=28):
    """Gateways only, for operators. ``what``: item | player; answer: StoreFound (runtime.store.search)."""

    what: Short
    word: Name
    at_least: U53 = 1
    limit: U32 = 50


class StoreFound(Message, frozen=True, tag=29):
    """Rows (unit, entity, name, server, count)."""

    rows: list[tuple[DocumentKey, U53, Text, Name, U53]]
    more: bool = False
    cut: bool = False


class StoreWrites(Message, frozen=True, tag=18):
    """Several StoreWrite of one turn of the loop (from mesh protocol MESH_PROTOCOL_BATCHES on), at most
    STORE_BATCH_WRITES, answered together: StoreWritten; a Problem concerns all of them."""

    generation: U32
    writes: list[BatchedWrite]


class StoreWritten(Message, frozen=True, tag=19):
    """The tokens of the writes in their order (0: removed or failed); (place, code, detail) of those that failed."""

    tokens: list[U53]
    failed: list[tuple[U32, Short, Text]] = []
