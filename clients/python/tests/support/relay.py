"""A wire between a client and a server that can go dead without a word: what is sent is swallowed, and nobody hangs up."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Connections that are made after `swallow` are of a wire that works."""

    def __init__(self, url: str) -> None:
        self._to = int(url.rsplit(":", 1)[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._dead = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def swallow(self) -> None:
        """Nothing passes any more on the connections that there are."""
        self._dead.set()
        self._dead = threading.Event()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(source, target, self._dead), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, dead: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            if not dead.is_set():
                target.sendall(data)
