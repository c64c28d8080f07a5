"""A stream between the store process and one of its clients: calls and answers, cut out of TCP's bytes.

    0             4                       12
    +-------------+-----------------------+-------------------------+
    | length, u32 | number of the call,   | a message of            |
    | of message  | u64; answers echo it  | world.messages (msgpack)|   all little-endian
    +-------------+-----------------------+-------------------------+

The store is no peer but a database: it begins no conversation, and its answers need no retries, because TCP loses
nothing on the way and a stream that broke leaves its calls as uncertain as a restart of the store does. So its calls
need neither the mesh's envelope nor its sockets, whose threads took more of a single write's time than the disk did
(docs/decisions/0017).
"""

import asyncio
import struct
from abc import ABC, abstractmethod
from typing import cast

from world.limits import COMMAND_MESSAGE_BYTES
from world.messages import BadMessage, Message, decode

HEAD = struct.Struct("<IQ")
HELLO = 0  # the number of a stream's first message, and of the answer to it


class Stream(asyncio.Protocol, ABC):
    """What both ends share. Subclasses say what an arrived message and the end of the stream mean."""

    transport: asyncio.Transport  # from connection_made on

    def __init__(self) -> None:
        self.paused = False  # nothing more is to arrive for now, also of what is here already
        self._bytes = b""  # of messages that have not arrived

    @abstractmethod
    def arrived(self, number: int, message: Message) -> None:
        """A whole message; ``number`` is the call's."""

    def spoilt(self) -> None:
        """Something came that is no message; the stream is ended already."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._bytes + data if self._bytes else data
        try:
            at = self._take(data)
        except BadMessage:
            self.transport.abort()
            self.spoilt()
            return
        self._bytes = data[at:]

    def _take(self, data: bytes) -> int:
        """Every whole message; returns where the first that is not begins, or was to wait. Raises BadMessage."""
        at = 0
        while len(data) - at >= HEAD.size and not self.paused and not self.transport.is_closing():
            length, number = HEAD.unpack_from(data, at)
            if length > COMMAND_MESSAGE_BYTES:
                raise BadMessage(f"{length} bytes")
            begins = at + HEAD.size
            if len(data) < begins + length:
                break
            at = begins + length
            self.arrived(number, decode(data[begins:at]))
        return at

    def pause(self, on: bool) -> None:
        if on == self.paused or self.transport.is_closing():
            return
        self.paused = on
        if on:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
            asyncio.get_running_loop().call_soon(self.data_received, b"")

    def write(self, number: int, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(HEAD.pack(len(body), number) + body)
