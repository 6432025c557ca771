"""TLS over a socket, without trio's detours: the `ssl` module encrypts, and what it makes is written at once.

`trio.SSLStream` sends through two locks and a task switch, and hands out one record at a time. Here a reply is
encrypted and given to the kernel by whoever has it (`try_send`), and one read of the socket is decrypted as a whole.

This is the interface of `trio.SSLStream` as far as Hypercorn uses it, so it serves HTTP/2 on such a stream as it is.
"""

from __future__ import annotations

import contextlib
import operator
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import trio

__all__ = ["Secure", "TlsStream", "in_the_clear", "serve_tls"]

HANDSHAKE_TIMEOUT: Final = 10.0  # seconds a client may take for the whole handshake
FAREWELL_TIMEOUT: Final = 1.0  # seconds a client whose handshake failed has to read why
CIPHERTEXT_BYTES: Final = 64 * 1024  # read from the socket at a time
RECORD_BYTES: Final = 16 * 1024  # the most plaintext a record has
CHUNK_BYTES: Final = 4 * RECORD_BYTES  # encrypted at a time; the kernel must have all of it before the next
MAX_UNREAD_ANSWERS: Final = 16 * 1024  # bytes of answers to TLS messages (new keys) the peer may leave unread

_NO_TLS: Final = b"this port speaks TLS: connect with https:// or wss://\n"
_NO_TLS_RESPONSE: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(_NO_TLS), _NO_TLS)
)

Secure = Callable[[trio.SocketStream], Awaitable["trio.SocketStream | TlsStream"]]
"""From a connection just accepted to the stream its client is served on. To be called in the connection's own task.

Raises trio.BrokenResourceError if the client does not get that far, in time.
"""


async def in_the_clear(transport: trio.SocketStream) -> trio.SocketStream | TlsStream:
    """The `Secure` of a server without TLS. Not a checkpoint."""
    return transport


async def serve_tls(
    transport: trio.SocketStream, context: ssl.SSLContext, turns: trio.Semaphore | None = None
) -> TlsStream:
    """The server's side of a handshake, within `HANDSHAKE_TIMEOUT`.

    A client that speaks HTTP without TLS is told so with a status 400; any other that fails gets TLS's own alert.

    Args:
        turns: see TlsStream.do_handshake.

    Raises:
        trio.BrokenResourceError: the handshake failed, or took too long; the text says why.
    """
    stream = TlsStream(transport, context, server_side=True)
    with trio.move_on_after(HANDSHAKE_TIMEOUT):
        try:
            await stream.do_handshake(turns)
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                with trio.move_on_after(FAREWELL_TIMEOUT):
                    await _say_farewell(transport, _NO_TLS_RESPONSE if stream.looks_like_http else b"")
            raise
        return stream
    raise trio.BrokenResourceError(f"no TLS handshake within {HANDSHAKE_TIMEOUT:g} s")


async def _say_farewell(transport: trio.SocketStream, response: bytes) -> None:
    """Let the client read what it was sent: closing a socket that has unread data destroys what is on its way."""
    with contextlib.suppress(trio.BrokenResourceError):
        if response:
            await transport.send_all(response)
        await transport.send_eof()
        while await transport.receive_some(CIPHERTEXT_BYTES):
            pass


class TlsStream(trio.abc.HalfCloseableStream):
    """One connection.

    The end of the connection reads as the end of the data, whether TLS announced it or not: HTTP and WebSocket mark
    the ends of their messages themselves, and many clients close without the announcement.

    What the client sends has bounds: one read of the socket is decrypted at a time, answers to TLS messages that it
    does not read end the connection, and renegotiation is for the context to refuse (`OP_NO_RENEGOTIATION`).

    Args:
        transport: the connection.
        context: the certificate and what else TLS needs to know.
        server_side: whether we are the server.
        server_hostname: the name that the server's certificate must have, if we are the client.

    Attributes:
        transport_stream: the connection. Closing it ends whatever waits on this stream.
        looks_like_http: the peer's first byte was no handshake's but a letter's.
    """

    def __init__(
        self,
        transport: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        self.transport_stream = transport
        self.looks_like_http = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._is_server = server_side
        self._has_begun = False  # something was received
        self._is_ready = False  # the handshake is done
        self._is_closed = False
        self._sent_eof = False
        self._ended = False  # the peer sends no more
        self._failure: Exception | None = None  # for whoever receives next
        self._plain = b""  # decrypted before anybody asked for it
        self._unsent = b""  # encrypted, and not yet the kernel's
        self._ahead = 0  # bytes of what `try_send` is given next that are encrypted already, in `_unsent` or sent
        self._deferred = 0  # bytes of `_outgoing` that wait for the next write: session tickets
        self._is_sending = False
        self._is_receiving = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """The raw socket, for those who look at its state."""
        return self.transport_stream.socket

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides chose in the handshake."""
        return self._ssl.selected_alpn_protocol()

    def selected_alpn_protocol(self) -> str | None:
        """The same; as trio and Hypercorn call it."""
        return self._ssl.selected_alpn_protocol()

    def version(self) -> str | None:
        """The version of the protocol, such as `TLSv1.3`."""
        return self._ssl.version()

    def peer_certificate(self) -> dict[str, Any] | None:
        """The verified certificate of the peer, as `ssl.SSLSocket.getpeercert` describes it; None if it gave none."""
        return self._ssl.getpeercert() or None

    async def do_handshake(self, turns: trio.Semaphore | None = None) -> None:
        """Shake hands, if that was not done yet. The caller limits the time. Cancelled, the stream is of no more use.

        Args:
            turns: has a place for each handshake that may compute in one pass of the loop, half a millisecond or so.
                What peers send at once would otherwise all be dealt with in one, and everybody would wait for that.

        Raises:
            trio.BrokenResourceError: it failed; the text says why, and the peer was sent TLS's alert.
        """
        if self._is_ready:
            await trio.lowlevel.checkpoint()
            return
        while True:
            try:
                if turns is None or not self._has_begun:
                    self._ssl.do_handshake()
                else:
                    async with turns:
                        self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush_all()
                await self._fill()
            except ssl.SSLError as error:
                with contextlib.suppress(OSError):
                    if not self.looks_like_http:
                        self._flush()
                raise trio.BrokenResourceError(f"TLS handshake failed: {_reason(error)}") from error
            else:
                break
        self._is_ready = True
        if self._is_server and self._ssl.version() == "TLSv1.3":
            # A client that has sent its request and is gone must not have a reset destroy that before we read it.
            self._deferred = self._outgoing.pending
        else:
            await self._flush_all()

    # -- sending

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt and send what the kernel takes at once. Returns how many bytes of `data` it has.

        What follows those may be encrypted already, so whatever is sent next must begin with it. Not a checkpoint.

        Raises:
            OSError: the connection broke.
        """
        done = 0
        total = len(data)
        while not self._unsent or self._flush():
            if self._ahead:
                skipped = min(self._ahead, total - done)
                self._ahead -= skipped
                done += skipped
            if done == total:
                break
            if total <= CHUNK_BYTES and not done:
                self._ahead = self._ssl.write(data)
            else:
                with memoryview(data) as view:
                    self._ahead = self._ssl.write(view[done : done + CHUNK_BYTES])
            self._unsent = self._outgoing.read()
            self._deferred = 0
        return done

    def _flush(self) -> bool:
        """Send what is encrypted. Returns whether the kernel has all of it. Raises OSError."""
        if not self._unsent:
            self._unsent = self._outgoing.read()
            self._deferred = 0
        while self._unsent:
            try:
                sent = os.write(self.socket.fileno(), self._unsent)
            except BlockingIOError:
                return False
            self._unsent = self._unsent[sent:] or self._outgoing.read()
        return True

    async def _flush_all(self) -> None:
        """Raises as `send_all`."""
        try:
            while not self._flush():
                await self.wait_writable()
        except OSError as error:
            raise self._broken(error) from error

    async def wait_writable(self) -> None:
        """Wait until the kernel takes something.

        Raises:
            trio.ClosedResourceError: this side is closed.
        """
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.wait_writable(self.socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Cancelled, all of what it has encrypted may still be sent, with what is sent next."""
        with self._sending():
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                done = self.try_send(data)
                if done == len(data):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return
                with memoryview(data) as view:
                    while done < len(data):
                        await self.wait_writable()
                        done += self.try_send(view[done:])
            except OSError as error:
                raise self._broken(error) from error
            except BaseException:
                self._ahead = 0
                raise

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending():
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._flush_all()
            await self.wait_writable()

    async def send_eof(self) -> None:
        """Announce the end of our data, and close our direction of the connection. The other one stays open."""
        with self._sending(is_eof=True):
            if self._sent_eof:
                await trio.lowlevel.checkpoint()
                return
            await self._flush_all()
            # OpenSSL looks for the peer's announcement when it makes ours, and fails if it finds data instead.
            self._plain += self._decrypt(CIPHERTEXT_BYTES + RECORD_BYTES) or b""
            with contextlib.suppress(ssl.SSLError):
                self._ssl.unwrap()
            self._sent_eof = True
            await self._flush_all()
            await self.transport_stream.send_eof()

    @contextlib.contextmanager
    def _sending(self, *, is_eof: bool = False) -> Iterator[None]:
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        if self._is_closed or (self._sent_eof and not is_eof):
            raise trio.ClosedResourceError("this stream was closed")
        self._is_sending = True
        try:
            yield
        finally:
            self._is_sending = False

    def _broken(self, error: OSError) -> Exception:
        """What trio calls this error."""
        if self._is_closed or self.socket.fileno() < 0:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError(f"TLS connection broken: {_reason(error)}")

    # -- receiving

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for data; nothing once the peer has sent its last. Cancelled, nothing is lost."""
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving")
        if max_bytes is None:
            max_bytes = CIPHERTEXT_BYTES
        elif operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._is_receiving = True
        try:
            if self._plain or self._ended or self._failure or self._incoming.pending or self._ssl.pending():
                await trio.lowlevel.checkpoint_if_cancelled()
                data = self._next(max_bytes)
                if data is not None:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return data
            while True:
                await self._fill()
                data = self._next(max_bytes)
                if data is not None:
                    return data
        finally:
            self._is_receiving = False

    async def _fill(self) -> None:
        """Wait for the peer, and read what there is. Raises as `receive_some`."""
        socket = self.socket
        if socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed")
        while True:
            await trio.lowlevel.wait_readable(socket)
            try:
                data = os.read(socket.fileno(), CIPHERTEXT_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._broken(error) from error
            break
        if not self._has_begun:
            self._has_begun = True
            self.looks_like_http = data[:1].isalpha()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _next(self, max_bytes: int) -> bytes | None:
        """What `receive_some` returns, None if more must arrive for that. Raises what it does."""
        if self._plain:
            data, self._plain = self._plain[:max_bytes], self._plain[max_bytes:]
            return data
        return self._decrypt(max_bytes)

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """As much as has arrived, nothing at the end; None if more must arrive."""
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        size = 0
        while size < max_bytes and not self._ended:
            try:
                part = self._ssl.read(min(max_bytes - size, RECORD_BYTES))
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                part = b""
            except ssl.SSLError as error:
                self._failure = self._broken(error)
                self._failure.__cause__ = error
                break
            if not part:
                self._ended = True
                break
            parts.append(part)
            size += len(part)
            if not self._incoming.pending and not self._ssl.pending():
                break
        if self._outgoing.pending > self._deferred:
            self._answer()
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if self._failure is not None:
            raise self._failure
        return b"" if self._ended else None

    def _answer(self) -> None:
        """Send what OpenSSL has to say by itself: alerts, and answers to the peer's new keys."""
        if self._sent_eof:
            self._outgoing.read()  # nothing can be sent any more
            return
        try:
            self._flush()
        except OSError:
            return  # whoever sends next gets it as well
        if self._outgoing.pending > MAX_UNREAD_ANSWERS:
            self._failure = trio.BrokenResourceError("the peer asks for new keys and reads no answer")

    # -- closing

    async def aclose(self) -> None:
        """Announce the end if the kernel takes that at once, and close the connection."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            # In the middle of a record the connection breaks off, which the peer must be able to tell.
            if self._is_ready and not self._sent_eof and not self._unsent and not self._failure:
                self._decrypt(CIPHERTEXT_BYTES + RECORD_BYTES)
                with contextlib.suppress(ssl.SSLError):
                    self._ssl.unwrap()
                self._flush()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await self.transport_stream.aclose()


def _reason(error: OSError) -> str:
    """In a few words; OpenSSL's own without the places in its source."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)
