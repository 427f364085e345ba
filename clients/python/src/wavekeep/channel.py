"""A connection to a server: the questions of its services, typed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from wavekeep import limits, refusals
from wavekeep.errors import AddressError, ClientClosed, WavekeepError

_Answer = TypeVar("_Answer", bound=Message)

_PACKAGE = "/wavekeep.v1"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse(url: str, token: str | None) -> tuple[str, bool]:
    """Host and port, and whether the connection is encrypted. A token is not sent where others could read it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(url, "it does not parse") from error
    if parts.scheme not in ("http", "https"):
        raise AddressError(url, "it starts with neither http:// nor https://")
    if not host or any(letter.isspace() for letter in url):
        raise AddressError(url, "it names no host")
    is_encrypted = parts.scheme == "https"
    if token and not is_encrypted and not _is_loopback(host):
        raise AddressError(url, "a token would cross the network unencrypted: use https://")
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port or (443 if is_encrypted else 80)}", is_encrypted


class Parts(Generic[_Answer]):
    """The messages of an answer as they come. Any thread may end it."""

    def __init__(self, call: Any, connection: Connection) -> None:
        self._call = call
        self._connection = connection
        self._began = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Answer:
        try:
            one: _Answer = next(self._call)
        except grpc.RpcError as error:
            raise self._connection.failed(error, began=self._began) from error
        self._began = True
        return one

    def cancel(self) -> None:
        """Whoever waits for the next message learns that there is none."""
        self._call.cancel()


class Connection:
    """A channel, made at the first question and closed by `close`. Threads may share it."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.is_closed = False
        target, is_encrypted = parse(url, token)
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
            ("grpc.keepalive_time_ms", limits.KEEP_ALIVE_SECONDS * 1000),
            ("grpc.keepalive_timeout_ms", limits.KEEP_ALIVE_SECONDS * 1000),
            # The first connection is given up after so long, and tried again as soon.
            ("grpc.min_reconnect_backoff_ms", limits.CONNECT_SECONDS_MAX * 1000),
            # A server that was away is found again soon, not after the two minutes that gRPC grows to.
            ("grpc.initial_reconnect_backoff_ms", limits.BACKOFF_MS_MIN),
            ("grpc.max_reconnect_backoff_ms", limits.BACKOFF_MS_MAX),
            # Who follows says nothing for hours, and must learn soon all the same that the server is gone.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.ping_timeout_ms", limits.KEEP_ALIVE_SECONDS * 1000),
            # Two clients of one process do not share a connection, or what one of them closed.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if _is_loopback(target.rsplit(":", 1)[0].strip("[]")):
            options.append(("grpc.enable_http_proxy", 0))
        if is_encrypted:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else None

    def close(self) -> None:
        """Ends what is under way."""
        self.is_closed = True
        self._channel.close()

    def ask(self, method: str, request: Message, answer: type[_Answer], *, service: str = "Query") -> _Answer:
        """One message for one."""
        call = self._channel.unary_unary(f"{_PACKAGE}.{service}/{method}", _serialize, answer.FromString)
        try:
            found: _Answer = call(request, timeout=limits.ANSWER_SECONDS_MAX, metadata=self._metadata)
        except (grpc.RpcError, ValueError) as error:
            raise self.failed(error) from error
        return found

    def stream(self, method: str, request: Message, part: type[_Answer]) -> Iterator[_Answer]:
        """Many messages for one. Whoever stops early ends the call."""
        parts = self.open(method, request, part)
        try:
            yield from parts
        finally:
            parts.cancel()

    def open(self, method: str, request: Message, part: type[_Answer]) -> Parts[_Answer]:
        """The same, for whoever ends the call himself."""
        parse_part: Callable[[bytes], _Answer] = part.FromString
        call = self._channel.unary_stream(f"{_PACKAGE}.Query/{method}", _serialize, parse_part)
        try:
            return Parts(call(request, metadata=self._metadata), self)
        except ValueError as error:
            raise self.failed(error) from error

    def failed(self, error: grpc.RpcError | ValueError, *, began: bool = False) -> WavekeepError | ValueError:
        """What to raise. `began`: parts of the answer had come."""
        if self.is_closed:
            # Of a channel that is closed gRPC says a ValueError, and CANCELLED of what was under way.
            return ClientClosed()
        return error if isinstance(error, ValueError) else refusals.from_grpc(error, self.url, began=began)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
