"""A machine for programs that are meant for containers.

What a container has, and how it is stood in for:

| a container's | here |
|---|---|
| programs under /usr/local/bin | copies of the built ones, first in PATH |
| environment | exactly what image and manifest say, and PATH |
| account | the same numbers when the checks run as root, otherwise whoever runs them |
| own address, others' names, ports | the loopback interface, a free port for each |
| volume | a directory that belongs to the account |
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

PROGRAMS = ["wavekeep-server", "wavekeep-agent", "wavekeep"]
# For what is expected to happen: long, because the machine may be busy.
PATIENCE_SECONDS = 60.0


def built_programs() -> Path:
    """Where `make build` has put them."""
    tree = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("WAVEKEEP_BIN", tree / "bin"))


def free_port() -> int:
    """Of the loopback interface, below those that the system gives to outgoing connections."""
    start = os.getpid() % 900 * 12
    for offset in range(12_000):
        port = 20_000 + (start + offset) % 12_000
        if port in _given:
            continue
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free loopback port between 20000 and 32000")


_given: set[int] = set()


def wait_until(what: str, condition: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
    """Waits for a condition, never for a time."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.05)


class Addresses:
    """Every service's ports, and what stands for them here."""

    def __init__(self, ports: Mapping[str, Collection[int]]) -> None:
        """Gives each port of each service a free one."""
        self._here = {(name, port): free_port() for name, all_of in ports.items() for port in all_of}
        self._names = set(ports)

    def port(self, service: str, port: int) -> int:
        """The port here."""
        return self._here[service, port]

    def translated(self, service: str, text: str) -> str:
        """A text with HOST:PORT as it is here. A port on which nobody listens is a mistake in the manifest."""

        def here(found: re.Match[str]) -> str:
            host, port = found[1], int(found[2])
            at = host if host in self._names else service
            if (at, port) not in self._here:
                raise LookupError(f"{service}: nobody is at {found[0]} (in {text!r})")
            return f"127.0.0.1:{self._here[at, port]}"

        hosts = "|".join(map(re.escape, sorted(self._names | {"0.0.0.0", "127.0.0.1", "localhost"})))  # noqa: S104
        return re.sub(rf"(?<![\w.-])({hosts}):(\d+)", here, text)


class Running:
    """A program that was started. What it says is in its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Takes it over."""
        self.process = process
        self.log = log

    def is_alive(self) -> bool:
        """Until it has ended."""
        return self.process.poll() is None

    def said(self) -> str:
        """The end of its log, for messages."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def ended(self, patience: float = PATIENCE_SECONDS) -> int:
        """Its exit code; negative for a signal."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.process.args!r} did not end in {patience} s:\n{self.said()}") from None

    def stop(self, stop_signal: str, grace_seconds: float) -> int:
        """As an engine does, but that the end of the grace is a failure."""
        self.process.send_signal(getattr(signal, stop_signal))
        return self.ended(grace_seconds)

    def kill(self) -> None:
        """Whatever it does."""
        if self.is_alive():
            self.process.kill()
        self.process.wait()


class Host:
    """See the module's documentation."""

    def __init__(self, directory: Path) -> None:
        """In a directory that every account may enter."""
        self.directory = directory
        self.bin = directory / "usr/local/bin"
        self.bin.mkdir(parents=True)
        for name in PROGRAMS:
            shutil.copy(built_programs() / name, self.bin / name)
        self._running: list[Running] = []

    def volume(self, name: str, user: str) -> Path:
        """A new one, of the account's."""
        path = self.directory / "volumes" / name
        path.mkdir(parents=True, mode=0o755)
        if os.geteuid() == 0:
            uid, gid = account(user)
            os.chown(path, uid, gid)
        return path

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        user: str,
        path: Sequence[Path] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> Running:
        """Exactly this, and nothing of our own environment."""
        log = self.directory / f"{len(self._running):03}-{Path(argv[0]).name}.log"
        places = [self.bin, *path, "/usr/local/bin", "/usr/bin", "/bin"]
        uid, gid = account(user) if os.geteuid() == 0 else (None, None)
        variables = {"PATH": os.pathsep.join(map(str, places)), **environment}
        program = shutil.which(argv[0], path=variables["PATH"])
        if program is None:
            raise FileNotFoundError(f"the image has no program {argv[0]}")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *argv[1:]],
                env=variables,
                cwd="/",
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=uid,
                group=gid,
                extra_groups=[] if uid is not None else None,
            )
        running = Running(process, log)
        self._running.append(running)
        return running

    def run(self, argv: Sequence[str], environment: Mapping[str, str], user: str, path: Sequence[Path] = ()) -> Running:
        """The same, to its end."""
        running = self.start(argv, environment, user, path)
        running.ended()
        return running

    def last_words(self) -> str:
        """Of those programs that said something, for whoever has to find out what went wrong."""
        return "\n".join(f"{running.log.name}:\n{running.said()}" for running in self._running if running.said())

    def close(self) -> None:
        """Nothing that was started outlives the checks. Latest first: programs before their database."""
        for running in reversed(self._running):
            running.kill()


def account(user: str) -> tuple[int, int]:
    """`10001:10001`, in numbers as Kubernetes needs them."""
    uid, _, gid = user.partition(":")
    return int(uid), int(gid or uid)
