"""A real server with a private Postgres in a temporary directory, and agents that record into it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

TREE = Path(__file__).resolve().parents[4]
SHARED = Path(os.environ.get("WAVEKEEP_SHARED") or TREE.parent / "shared")
DATA = SHARED / "data"
START = "2026-01-31T12:00:00Z"
START_NS = 1_769_860_800_000_000_000
READY_SECONDS = 120.0


def binary(name: str) -> str:
    """One of ours, where `make build` puts them."""
    path = Path(os.environ.get("WAVEKEEP_BIN") or TREE / "bin") / name
    assert path.is_file(), f"{path} is not built: run `make build`"
    return str(path)


def environment() -> dict[str, str]:
    """Nothing of ours in the options of what we start."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WAVEKEEP_")}


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Lab:
    """See the module. Stopped by `close`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wavekeep-python-"))
        # The private Postgres runs as another user when the tests run as root.
        self.folder.chmod(0o755)
        self.url = f"http://127.0.0.1:{free_port()}"
        self._http = f"127.0.0.1:{free_port()}"
        self._log: IO[bytes] = (self.folder / "server.log").open("wb")
        self._outboxes = 0
        self.start()

    def start(self) -> None:
        """The server, at the same address and on the same data as before."""
        grpc = self.url.removeprefix("http://")
        arguments = ["dev", "--data-dir", str(self.folder / "server"), "--listen", grpc, "--http", self._http]
        self._server = subprocess.Popen(
            [binary("wavekeep-server"), *arguments], env=environment(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    def stop(self, how: int = signal.SIGTERM) -> None:
        """The server alone: by default it drains, and stops its Postgres."""
        self._server.send_signal(how)
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < end:
            assert self._server.poll() is None, f"the server ended: {(self.folder / 'server.log').read_text()}"
            try:
                with opener.open(f"http://{self._http}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {(self.folder / 'server.log').read_text()}")

    def close(self) -> None:
        """Drains the server, which stops its Postgres, and removes everything."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def agent(self, *arguments: str) -> None:
        """Runs an agent to its end: all that it captured is acknowledged then."""
        self._outboxes += 1
        outbox = str(self.folder / f"outbox-{self._outboxes}")
        command = [binary("wavekeep-agent"), *arguments, "--server", self.url, "--outbox", outbox]
        ran = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        shutil.rmtree(outbox)

    def simulate(self, device: str, spec: str, duration: str, *more: str) -> None:
        """Records a simulated instrument as fast as possible."""
        fast = ["--quota", "1GiB", "--when-full", "block"]
        self.agent("run", "--device", device, "--simulate", f"{spec},speed=max", "--duration", duration, *fast, *more)

    def replay(self, file: Path, device: str, *more: str) -> None:
        """Brings a file to the server."""
        self.agent("replay", str(file), "--device", device, *more)

    def command_line(self, *arguments: str) -> str:
        """Runs `wavekeep` to its end; what it prints."""
        command = [binary("wavekeep"), *arguments, "--server", self.url]
        ran = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        return ran.stdout

    def listed(self, what: str, device: str) -> list[dict[str, Any]]:
        """What the command line lists of a device, such as its streams."""
        return [json.loads(line) for line in self.command_line("--json", what, "--device", device).splitlines()]

    def export_to(self, output: Path, form: str, device: str, *more: str) -> None:
        """Has the command line write a file."""
        self.command_line("export", "--device", device, "--format", form, "--output", str(output), *more)

    def export(self, device: str, *more: str) -> NDArray[np.uint8]:
        """What the command line says the samples are, as bytes."""
        output = self.folder / "export.bin"
        self.export_to(output, "raw", device, *more)
        return np.fromfile(output, np.uint8)

    @contextlib.contextmanager
    def running(self, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """One of ours beside the test, killed where it still runs at the end. It writes into PROGRAM.log."""
        command = [binary(program), *arguments, "--server", self.url]
        with (self.folder / f"{program}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
