"""A server, an agent and the command line, for the tests of exported files. The binaries are those of WAVEKEEP_BIN."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

READY_SECONDS = 60.0


def binary(name: str) -> str:
    """Where a binary is; without WAVEKEEP_BIN, beside the clone's Makefile."""
    folder = os.environ.get("WAVEKEEP_BIN") or str(Path(__file__).parents[3] / "bin")
    return str(Path(folder) / name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment() -> dict[str, str]:
    """Ours, without settings of whoever runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WAVEKEEP_")}


class Bench:
    """A server with a database of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"

    def server_command(self) -> list[str]:
        listen = self.url.removeprefix("http://")
        data = str(self.folder / "data")
        return [binary("wavekeep-server"), "dev", "--data-dir", data, "--listen", listen, "--http", self.http]

    def wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if server.poll() is not None:
                break
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            time.sleep(0.05)
        log = (self.folder / "server.log").read_text()
        raise AssertionError(f"the server is not ready; its log ends with:\n{log[-2000:]}")

    def agent(self, name: str, *options: str) -> None:
        """Runs an agent to its end."""
        verb, *rest = options
        outbox = str(self.folder / f"outbox-{name}")
        command = [binary("wavekeep-agent"), verb, *rest, "--server", self.url, "--outbox", outbox]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def reader(self, *options: str) -> str:
        """Runs `wavekeep`; what it prints."""
        command = [binary("wavekeep"), *options, "--server", self.url]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def export(self, device: str, form: str, output: Path, *more: str) -> str:
        return self.reader("export", "--device", device, "--format", form, "--output", str(output), *more)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="wavekeep-export-") as name:
        folder = Path(name)
        # The private Postgres runs as another user when the tests run as root.
        folder.chmod(0o755)
        own = Bench(folder)
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(own.server_command(), env=environment(), stdout=log, stderr=log)
        try:
            own.wait_until_ready(server)
            yield own
        finally:
            server.terminate()
            server.wait(timeout=60)
