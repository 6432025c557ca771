"""How many calls, bytes and seconds of the store a caller may have a second, counted before a message is read.

Who has logged in is counted by who it is, whatever it calls from; everybody else by address. What a caller has not used
it keeps for BURST seconds. A message that is more than that by itself is let through when nothing is owed, and what
comes after it waits until it is paid for; so do replies and the time of the store, which nobody knows before.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import trio

from coordinator import measures
from coordinator.errors import Overloaded

if TYPE_CHECKING:
    from coordinator.rpc.access.client import Access

__all__ = ["Account", "CallerLimits", "whose"]

BURST: Final = 2.0  # seconds, what they give may be used at once
ROUNDING: Final = 1e-6  # seconds by which adding up may be wrong
CALLERS: Final = 65_536  # counted, of those that have logged in and of addresses each; the longest silent are forgotten
PREFIX: Final = 64  # bits of an IPv6 address: whoever has one has all that begin so
FIRST_PAUSE: Final = 0.01  # seconds in which nothing is read of who was refused; doubled with each refusal in a row
DOUBLED: Final = 7  # times at most


class Bucket:
    """What one caller has used.

    Attributes:
        calls_until, bytes_until, store_until: when (trio.current_time) all of that is paid for.
        refusals: in a row.
    """

    __slots__ = ("bytes_until", "calls_until", "refusals", "store_until")

    def __init__(self) -> None:
        self.calls_until = 0.0
        self.bytes_until = 0.0
        self.store_until = 0.0
        self.refusals = 0


class CallerLimits:
    """Shared by all front-ends of a process.

    Args:
        calls: a second, for one caller; 0 for no limit.
        size: bytes a second, of messages and replies together; 0 for no limit.
        store_time: seconds a second that the store takes over its calls; 0 for no limit.
        share: of all of it, that this process gives; the workers count by themselves.

    Attributes:
        refused: messages.
    """

    def __init__(self, calls: int, size: int, store_time: float = 0.0, *, share: float = 1.0) -> None:
        self._calls = calls
        self._size = size
        self._store_time = store_time
        self._seconds_a_second = 1 / (store_time * share) if store_time else 0.0
        self._seconds_a_call = 1 / (calls * share) if calls else 0.0
        self._seconds_a_byte = 1 / (size * share) if size else 0.0
        self._logged_in: OrderedDict[object, Bucket] = OrderedDict()  # whom no number of addresses drives out
        self._addresses: OrderedDict[object, Bucket] = OrderedDict()
        self.refused = 0

    @property
    def counts_store_time(self) -> bool:
        """Whether that is limited."""
        return self._store_time > 0

    @property
    def callers(self) -> int:
        """Counted now."""
        return len(self._logged_in) + len(self._addresses)

    def account(self, access: Access | None, address: str) -> Account:
        """That of a client.

        Args:
            access: says who it is, if callers log in.
            address: where it is; '' if nobody knows.
        """
        return Account(self, access, whose(address))

    def bucket(self, identity: object | None, address: str) -> Bucket:
        """That of a caller, by who it is; None: by its address."""
        table, key = (self._addresses, address) if identity is None else (self._logged_in, identity)
        bucket = table.get(key)
        if bucket is None:
            if len(table) >= CALLERS:
                table.popitem(last=False)
            bucket = table[key] = Bucket()
        else:
            table.move_to_end(key)
        return bucket

    def admit(self, bucket: Bucket, calls: int, size: int, *, counts: bool = True) -> Overloaded | None:
        """Count a message, or say why it may not be. Unless it `counts`, say only that."""
        now = trio.current_time()
        calls_until = bucket.calls_until if bucket.calls_until > now else now
        calls_after = calls_until + calls * self._seconds_a_call
        bytes_until = bucket.bytes_until if bucket.bytes_until > now else now
        bytes_after = bytes_until + size * self._seconds_a_byte
        latest = now + BURST + ROUNDING
        store_wait = bucket.store_until - latest
        if (
            (calls_after > latest and calls_until > now)
            or (bytes_after > latest and bytes_until > now)
            or store_wait > 0
        ):
            # A message that is more than the burst waits until nothing is owed.
            calls_wait = min(calls_after - latest, calls_until - now)
            bytes_wait = min(bytes_after - latest, bytes_until - now)
            self.refused += counts
            return self._overloaded(calls_wait, bytes_wait, store_wait)
        if not counts:
            return None
        bucket.calls_until = calls_after
        bucket.bytes_until = bytes_after
        bucket.refusals = 0
        return None

    def admit_batch(self, bucket: Bucket, calls: int) -> Overloaded | None:
        """The same for the calls of a batch, which was counted as one call before it was read."""
        bucket.calls_until -= self._seconds_a_call
        if self.admit(bucket, calls, 0) is None:
            return None
        bucket.calls_until += (
            self._seconds_a_call
        )  # reading it counts as a call, and the time to wait is longer by that
        self.refused -= 1
        return self.admit(bucket, calls, 0)

    def spend(self, bucket: Bucket, size: int) -> None:
        """Count the bytes of a reply."""
        if self._seconds_a_byte:
            bucket.bytes_until = max(trio.current_time(), bucket.bytes_until) + size * self._seconds_a_byte

    def spend_store_time(self, bucket: Bucket, seconds: float) -> None:
        """Count what the store took over a call."""
        bucket.store_until = max(trio.current_time(), bucket.store_until) + seconds * self._seconds_a_second

    def _overloaded(self, calls_wait: float, bytes_wait: float, store_wait: float) -> Overloaded:
        wait = math.ceil(max(calls_wait, bytes_wait, store_wait) * 1000) / 1000
        limit: float
        limit, what, setting = self._calls, "calls", "caller_calls"
        if bytes_wait > calls_wait:
            limit, what, setting = self._size, "bytes", "caller_bytes"
        if store_wait > max(calls_wait, bytes_wait):
            limit, what, setting = self._store_time, "seconds of the store's time", "caller_store_time"
        detail = f"more than {limit} {what} a second from one caller; nothing of this was done, try again in {wait:g} s"
        return Overloaded(detail, limit, setting, retry_after=wait)


class Account:
    """What is counted of a client: of a WebSocket connection, or of an HTTP message."""

    __slots__ = ("_access", "_address", "_bucket", "_limits")

    def __init__(self, limits: CallerLimits, access: Access | None, address: str) -> None:
        self._limits = limits
        self._access = access
        self._address = address
        self._bucket = limits.bucket(None, address)

    def is_used_up(self, size: int) -> bool:
        """Whether nobody at this address who has not logged in may send a message of so many bytes now."""
        return self._limits.admit(self._limits.bucket(None, self._address), 1, size, counts=False) is not None

    def admit(self, size: int) -> Overloaded | None:
        """Count a message of so many bytes, as one call, or say why it may not be."""
        principal = None if self._access is None else self._access.principal
        self._bucket = self._limits.bucket(None if principal is None else principal.identity, self._address)
        return self._limits.admit(self._bucket, 1, size)

    def refusal_of(self, calls: int, size: int) -> Overloaded | None:
        """What is said of a message of about so many calls that was not admitted."""
        return self._limits.admit(self._bucket, calls, size, counts=False)

    def admit_batch(self, calls: int) -> Overloaded | None:
        """The same for the calls of the message that was admitted, which is a batch."""
        return self._limits.admit_batch(self._bucket, calls)

    def spend(self, size: int) -> None:
        """Count a reply of so many bytes."""
        self._limits.spend(self._bucket, size)

    @property
    def counts_store_time(self) -> bool:
        """Whether that is limited."""
        return self._limits.counts_store_time

    def charge(self, seconds: float) -> None:
        """Count what the store took over a call of the message that was admitted."""
        self._limits.spend_store_time(self._bucket, seconds)

    def pause(self, refused: Overloaded) -> float:
        """Seconds in which no more is to be read of a client that was refused: whoever goes on sending costs little."""
        self._bucket.refusals += 1
        retry_after: float = refused.data["retry_after"]
        measures.refused(refused.data["setting"], id(self._bucket), retry_after)
        return min(retry_after, FIRST_PAUSE * (1 << min(self._bucket.refusals - 1, DOUBLED)))


@lru_cache(4096)
def whose(address: str) -> str:
    """What stands for an address when callers are counted: itself, of IPv6 the beginning that one subscriber has."""
    if ":" not in address:
        return address
    try:
        read = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    network = ipaddress.IPv6Network((int(read), PREFIX), strict=False)
    return str(network)
