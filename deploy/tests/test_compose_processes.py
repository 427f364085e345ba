"""Each service of compose.yaml, its exact command and environment, as processes: see `host` for what is mapped."""

import json
import re
import shlex
import urllib.parse
from typing import Any

import pytest

import compose
import dockerfile
import host
import postgres
from conftest import TREE


class Stack:
    """All services, started in their order."""

    def __init__(self, services: dict[str, compose.Service], image: dockerfile.Image, machine: host.Host) -> None:
        """Returns once every health check passes."""
        self.services = services
        self.image = image
        self.machine = machine
        self.running: dict[str, host.Running] = {}
        self.exit_codes: dict[str, int] = {}
        self.addresses = host.Addresses(
            {name: {*service.ports, *(image.ports if service.built else [])} for name, service in services.items()}
        )
        self.volumes = {
            path: str(machine.volume(name, image.user))
            for service in services.values()
            if service.built
            for name, path in service.volumes.items()
        }
        for service in compose.start_order(services):
            self._conditions(service)
            if service.built:
                argv = self.translated(service, service.argv(image))
                self.running[service.name] = machine.start(argv, self.environment(service), image.user)
            else:
                self._database(service)

    def _database(self, service: compose.Service) -> None:
        """Its image's own entrypoint makes the account and the database that the environment names."""
        given = {name: service.environment[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB")}
        port = self.addresses.port(service.name, 5432)
        self.database = postgres.Postgres(self.machine, port, given["USER"], given["PASSWORD"], given["DB"])
        self.running[service.name] = self.database.running

    def _conditions(self, service: compose.Service) -> None:
        for name, condition in service.depends_on.items():
            if condition == "service_completed_successfully":
                self.exit_codes[name] = self.running[name].ended()
                assert self.exit_codes[name] == 0, self.running[name].said()
            else:
                self.until_healthy(name)

    def translated(self, service: compose.Service, words: list[str]) -> list[str]:
        """Addresses and volumes as they are here."""
        words = [self.addresses.translated(service.name, word) for word in words]
        for path, here in self.volumes.items():
            words = [word.replace(path, here) for word in words]
        return words

    def environment(self, service: compose.Service) -> dict[str, str]:
        """The same of the environment."""
        variables = service.variables(self.image)
        return dict(zip(variables, self.translated(service, list(variables.values())), strict=True))

    def check(self, name: str) -> host.Running:
        """A health check's command, in the service's own environment. PGPORT is the database's port here."""
        service = self.services[name]
        assert service.health_check is not None
        environment = self.environment(service) if service.built else {}
        if not service.built:
            environment["PGPORT"] = str(self.addresses.port(name, 5432))
        argv = self.translated(service, service.health_check)
        return self.machine.run(argv, environment, self.image.user, [postgres.binaries()])

    def until_healthy(self, name: str) -> None:
        """As its dependants wait for it."""

        def passes() -> bool:
            assert self.running[name].is_alive(), self.running[name].said()
            return self.check(name).process.returncode == 0

        host.wait_until(f"{name} is healthy", passes)

    def wavekeep(self, *words: str) -> list[dict[str, Any]]:
        """The reader, on the published port."""
        server = f"http://127.0.0.1:{self.addresses.port('server', 7460)}"
        running = self.machine.run(["wavekeep", "--server", server, "--json", *words], {}, self.image.user)
        assert running.process.returncode == 0, running.said()
        # What is for people goes to standard error, which is in the same log.
        lines = running.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self, name: str, stop_signal: str = "SIGTERM") -> int:
        """As `docker compose stop` does it; not to have ended within the grace is a failure."""
        return self.running[name].stop(stop_signal, self.services[name].stop_grace_seconds)


@pytest.fixture(scope="module")
def stack(machine: host.Host, image: dockerfile.Image) -> Stack:
    """Up and healthy."""
    started = Stack(compose.read(TREE / "compose.yaml"), image, machine)
    started.until_healthy("agent")
    return started


def samples(stack: Stack) -> int:
    """Committed, of all devices."""
    return sum(int(device["sample_count"]) for device in stack.wavekeep("devices"))


def test_samples_are_committed(stack: Stack) -> None:
    """More than a second of a JS220, by the device that the file names."""
    host.wait_until("a million samples are committed", lambda: samples(stack) > 1_000_000)
    assert [device["device"] for device in stack.wavekeep("devices")] == ["js220-001"]
    assert int(stack.database.select("SELECT sum(sample_count) FROM main.chunk")) > 1_000_000


def test_the_database_is_entered_by_the_names_in_the_file(stack: Stack) -> None:
    """Account and database of POSTGRES_… are those of the server's URL."""
    url = urllib.parse.urlsplit(stack.services["server"].environment["WAVEKEEP_DATABASE_URL"])
    given = stack.services["database"].environment
    assert (url.username, url.password, url.path) == (
        given["POSTGRES_USER"],
        given["POSTGRES_PASSWORD"],
        "/" + given["POSTGRES_DB"],
    )


def test_the_readmes_lines_find_what_they_ask_for(stack: Stack) -> None:
    """Both lines that look at the data. Inside a container the programs need no address; here they get one."""
    lines = re.findall(r"^docker compose exec (.*)$", (TREE / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words, environment = shlex.split(line), {}
        while words[0] == "--env":
            name, _, environment[name] = words[1].partition("=")
            words = words[2:]
        service, *argv = words
        if service == "database":
            password = stack.services[service].environment["POSTGRES_PASSWORD"]
            port = str(stack.addresses.port(service, 5432))
            environment |= {"PGHOST": "127.0.0.1", "PGPORT": port, "PGPASSWORD": password}
        else:
            port = str(stack.addresses.port(service, 7460))
            environment |= {"WAVEKEEP_SERVER": f"http://127.0.0.1:{port}"}
        running = stack.machine.run(argv, environment, stack.image.user, [postgres.binaries()])
        assert running.process.returncode == 0, running.said()
        assert len(running.said().splitlines()) > 1


def test_health_checks_fail_when_they_should(stack: Stack) -> None:
    """Nobody at all is not healthy: each check's own command says so."""
    elsewhere = host.free_port()
    for name, word in {
        "server": "http://127.0.0.1:7461/readyz",
        "agent": "/var/lib/wavekeep/outbox/agent.sock",
    }.items():
        argv = stack.services[name].health_check or []
        assert word in argv
        nobody = [
            w.replace("127.0.0.1:7461", f"127.0.0.1:{elsewhere}").replace("agent.sock", "none.sock") for w in argv
        ]
        assert stack.machine.run(nobody, {}, stack.image.user).process.returncode != 0


def test_a_variable_with_a_slip_ends_the_server(stack: Stack) -> None:
    """So that a setting in compose.yaml that nobody reads is noticed at once."""
    service = stack.services["server"]
    variables = stack.environment(service) | {"WAVEKEEP_DRAINS": "20s"}
    running = stack.machine.run(stack.translated(service, service.argv(stack.image)), variables, stack.image.user)
    assert running.process.returncode == 2, running.said()
    assert "WAVEKEEP_DRAINS" in running.said()


def test_everything_stops_in_order_and_nothing_is_missing(stack: Stack) -> None:
    """The last to start is the first to stop; the agent has delivered all before it ends, and so all can be read."""
    assert stack.stop("agent") == 0, stack.running["agent"].said()
    [device] = stack.wavekeep("devices")
    [stream] = stack.wavekeep("streams")
    assert stack.wavekeep("gaps") == []
    assert stream["sample_count"] == device["sample_count"]
    assert stack.stop("server") == 0, stack.running["server"].said()
    assert stack.stop("database", "SIGINT") == 0
    assert stack.exit_codes == {"migrate": 0}
