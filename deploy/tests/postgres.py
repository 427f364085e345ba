"""A private Postgres, in the role of the manifests' database: the same account, password and name, but no extension."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import host


def binaries() -> Path:
    """In PATH, where `pg_config` says, or where Debian puts them, newest first."""
    in_path = shutil.which("initdb")
    if in_path:
        return Path(in_path).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if debian:
        return debian[-1].parent
    raise FileNotFoundError("there is no Postgres here: install postgresql (`make setup` does)")


def _account() -> str:
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return f"{os.geteuid()}:{os.getegid()}"
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return f"{entry.pw_uid}:{entry.pw_gid}"
    raise LookupError("there is no account as which Postgres could run")


class Postgres:
    """Made and started, with the database created, once the constructor returns."""

    def __init__(self, on: host.Host, port: int, user: str, password: str, database: str) -> None:
        """Connections need the password, as they would in a container."""
        self.port = port
        self.url = f"postgres://{user}:{password}@127.0.0.1:{port}/{database}"
        self._host = on
        self._bin = binaries()
        self._variables = {"LC_ALL": "C", "PGPASSWORD": password}
        self._account = _account()
        self._data = on.volume("postgres", self._account) / "data"
        self._connection = ["--host=127.0.0.1", f"--port={port}", f"--username={user}"]
        password_file = on.directory / "password"
        password_file.write_text(password)
        cluster = [f"--pgdata={self._data}", f"--username={user}", "--encoding=UTF8", "--no-sync"]
        self._done(["initdb", *cluster, "--auth=scram-sha-256", f"--pwfile={password_file}"])
        self.running = self.start()
        if database != "postgres":
            self._done(["createdb", *self._connection, database])
        self._connection.append(f"--dbname={database}")

    def start(self) -> host.Running:
        """Also after it was stopped."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = ["postgres", "-D", str(self._data), *options]
        self.running = self._host.start(argv, self._variables, self._account, [self._bin])
        ask = ["pg_isready", "--quiet", *self._connection]
        host.wait_until("Postgres is ready", lambda: self._run(ask).process.returncode == 0)
        return self.running

    def _run(self, argv: list[str]) -> host.Running:
        return self._host.run(argv, self._variables, self._account, [self._bin])

    def _done(self, argv: list[str]) -> None:
        running = self._run(argv)
        assert running.process.returncode == 0, running.said()

    def select(self, sql: str) -> str:
        """What psql prints, unadorned."""
        running = self._run(
            ["psql", *self._connection, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={sql}"]
        )
        assert running.process.returncode == 0, running.said()
        return running.said().strip()

    def hold(self, sql: str) -> "Held":
        """Begins a transaction, and keeps it open once the statement is done."""
        argv = ["psql", *self._connection, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        running = self._host.start(argv, self._variables, self._account, [self._bin], stdin=subprocess.PIPE)
        held = Held(running)
        held.say(f"BEGIN; {sql}; \\echo held\n")
        host.wait_until(f"{sql} is done", lambda: "held" in running.said())
        return held


class Held:
    """An open transaction."""

    def __init__(self, running: host.Running) -> None:
        """Of a psql that reads what it is to do."""
        self._running = running

    def say(self, sql: str) -> None:
        """To psql."""
        pipe = self._running.process.stdin
        assert pipe is not None
        pipe.write(sql.encode())
        pipe.flush()

    def release(self) -> None:
        """Rolls back."""
        self.say("ROLLBACK; \\q\n")
        assert self._running.process.stdin is not None
        self._running.process.stdin.close()
        assert self._running.ended() == 0, self._running.said()
