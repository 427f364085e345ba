"""The migration and the server, exactly as rendered, on a private Postgres; probed and stopped as by a kubelet."""

import signal
import time
from typing import Any

import pytest

import dockerfile
import host
import manifests
import postgres
import probes

SECRET = "wavekeep-database"


class Cluster:
    """One pod of each kind, of the overlay `dev`; the Secret is a stand-in that names a private Postgres."""

    def __init__(self, machine: host.Host, image: dockerfile.Image) -> None:
        """With a database, and nothing in it."""
        self.machine = machine
        self.image = image
        self.objects = manifests.render(manifests.K8S / "overlays/dev")
        self.pod = manifests.pod_of(manifests.find(self.objects, "Deployment"))
        self.container: dict[str, Any] = self.pod["containers"][0]
        self.addresses = host.Addresses({"server": [port["containerPort"] for port in self.container["ports"]]})
        self.database = postgres.Postgres(machine, host.free_port(), "wavekeep", "stand-in", "wavekeep")
        self.secrets = {SECRET: {"url": self.database.url}}

    def program(self, kind: str) -> manifests.Program:
        """With the addresses of this machine."""
        pod = manifests.pod_of(manifests.find(self.objects, kind))
        program = manifests.program(pod, self.objects, self.image, self.secrets)
        own = program.environment.pop("WAVEKEEP_DATABASE_URL")
        program.argv = [self.addresses.translated("server", word) for word in program.argv]
        program.environment = {
            name: self.addresses.translated("server", value) for name, value in program.environment.items()
        } | {"WAVEKEEP_DATABASE_URL": own}
        return program

    def start(self, kind: str) -> host.Running:
        """As rendered."""
        program = self.program(kind)
        return self.machine.start(program.argv, program.environment, program.user)

    def probe(self, name: str) -> bool:
        """By the name that it has in the manifest."""
        probe = self.container[name]
        return probes.serving(self.addresses.port("server", probe["grpc"]["port"]), probe)

    def started_server(self) -> host.Running:
        """Once it is started and ready, in as many probes as the manifest grants it."""
        server = self.start("Deployment")
        probe = self.container["startupProbe"]
        host.wait_until(
            "the startup probe succeeds",
            lambda: self.probe("startupProbe"),
            probe["periodSeconds"] * probe["failureThreshold"],
        )
        host.wait_until("the readiness probe succeeds", lambda: self.probe("readinessProbe"))
        return server

    def agent(self) -> host.Running:
        """Four seconds of a JS220, and then until all is acknowledged."""
        outbox = self.machine.volume("outbox", self.image.user)
        server = f"http://127.0.0.1:{self.addresses.port('server', 7460)}"
        argv = ["wavekeep-agent", "run", "--server", server, "--outbox", str(outbox), "--device", "bench"]
        return self.machine.start([*argv, "--simulate", "js220,rate=1000000", "--duration", "4s"], {}, self.image.user)

    def committed(self) -> int:
        """Samples."""
        return int(self.database.select("SELECT coalesce(sum(sample_count), 0) FROM main.chunk"))


@pytest.fixture(scope="module")
def cluster(machine: host.Host, image: dockerfile.Image) -> Cluster:
    """Migrated by the Job; a server that comes before it is told so."""
    made = Cluster(machine, image)
    early = made.start("Deployment")
    assert early.ended() == 1
    assert "migrate" in early.said(), early.said()
    migration = made.start("Job")
    assert migration.ended() == 0, migration.said()
    assert '"name":"main"' in migration.said()
    return made


def test_a_rolling_restart_drains_and_loses_nothing(cluster: Cluster) -> None:
    """SIGTERM while commits wait: not ready at once, alive until the end, gone within the grace, with 0.

    The next server gets the rest.
    """
    server = cluster.started_server()
    assert cluster.probe("livenessProbe")
    agent = cluster.agent()
    host.wait_until("samples are committed", lambda: cluster.committed() > 0)
    # Nothing commits while somebody else has the table, so that the drain has something to wait for.
    held = cluster.database.hold("LOCK TABLE main.chunk IN SHARE MODE")
    host.wait_until(
        "a commit waits", lambda: cluster.database.select("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
    )

    grace_ends = time.monotonic() + cluster.pod["terminationGracePeriodSeconds"] - manifests.stop_seconds(cluster.pod)
    server.process.send_signal(getattr(signal, cluster.image.stop_signal))
    host.wait_until("readiness is lost", lambda: not cluster.probe("readinessProbe"))
    assert cluster.probe("livenessProbe"), "a server that drains is not to be restarted"
    assert server.is_alive()
    held.release()
    assert server.ended(grace_ends - time.monotonic()) == 0, server.said()

    second = cluster.started_server()
    assert agent.ended() == 0, agent.said()
    assert cluster.committed() == 4_000_000
    second.process.send_signal(signal.SIGTERM)
    assert second.ended() == 0


def test_without_its_database_a_server_is_alive_but_not_ready(cluster: Cluster) -> None:
    """So nobody restarts it for that."""
    server = cluster.started_server()
    assert cluster.database.running.stop("SIGINT", host.PATIENCE_SECONDS) == 0
    host.wait_until("readiness is lost", lambda: not cluster.probe("readinessProbe"))
    assert cluster.probe("livenessProbe")
    cluster.database.start()
    host.wait_until("it is ready again", lambda: cluster.probe("readinessProbe"))
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.parametrize("option", ["--memory-bugdet=128MiB", "--drain=soon"])
def test_an_argument_that_the_server_does_not_know_ends_it(cluster: Cluster, option: str) -> None:
    """So that a slip in the manifest is seen here."""
    program = cluster.program("Deployment")
    running = cluster.machine.run([*program.argv, option], program.environment, program.user)
    assert running.process.returncode == 2, running.said()


def test_a_setting_with_a_slip_ends_the_server(cluster: Cluster) -> None:
    """The same for the ConfigMap."""
    program = cluster.program("Deployment")
    variables = program.environment | {"WAVEKEEP_MEMORY_BUDGETS": "1GiB"}
    assert cluster.machine.run(program.argv, variables, program.user).process.returncode == 2
