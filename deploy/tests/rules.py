"""What must hold between the manifests and the server, which no schema knows. Each rule yields what breaks it."""

from collections.abc import Iterator

import manifests
import rust_constants
import units
from manifests import Manifest

# A chunk, at most: `query/limits.rs` asserts that 32 answers of 4 chunks are below READ_BYTES_MAX.
_CHUNKS_READ = 32 * 4
# The process itself: code, connections' buffers as they are in practice, what is being decoded and verified.
_PROCESS_BYTES = 64 * 1024**2


def closing_seconds() -> int:
    """After the drain's deadline: sessions that hang, readers, connections to the database."""
    return (
        rust_constants.seconds("ingest-server/src/drain.rs", "GRACE")
        + rust_constants.seconds("ingest-server/src/grpc.rs", "READERS_GRACE")
        + rust_constants.seconds("ingest-server/src/serve.rs", "CLOSE_WAIT")
    )


def memory_needed(budget: int) -> int:
    """The budget, what readers hold at worst, one chunk of each session that the budget allows, and the process."""
    reading = rust_constants.number("ingest-server/src/query/limits.rs", "READ_BYTES_MAX")
    sessions = budget // rust_constants.number("proto/src/limits.rs", "WINDOW_BYTES_MIN")
    return budget + reading + sessions * (reading // _CHUNKS_READ) + _PROCESS_BYTES


def _settings(objects: list[Manifest]) -> dict[str, str]:
    pod = manifests.pod_of(manifests.find(objects, "Deployment"))
    name = pod["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    settings: dict[str, str] = manifests.find(objects, "ConfigMap", name)["data"]
    return settings


def grace(objects: list[Manifest]) -> Iterator[str]:
    """SIGKILL comes after the drain."""
    pod = manifests.pod_of(manifests.find(objects, "Deployment"))
    drain = units.seconds(_settings(objects)["WAVEKEEP_DRAIN"])
    needed = manifests.stop_seconds(pod) + drain + closing_seconds()
    if pod.get("terminationGracePeriodSeconds", 30) <= needed:
        yield f"terminationGracePeriodSeconds is not above preStop, drain and closing: {needed:.0f} s"


def memory(objects: list[Manifest]) -> Iterator[str]:
    """The server never reaches its limit by what it is allowed to hold."""
    container = manifests.pod_of(manifests.find(objects, "Deployment"))["containers"][0]
    needed = memory_needed(units.size(_settings(objects)["WAVEKEEP_MEMORY_BUDGET"]))
    if units.size(container["resources"]["limits"]["memory"]) < needed:
        yield f"the memory limit is below what the server may hold: {needed // 1024**2} MiB"


def probes(objects: list[Manifest]) -> Iterator[str]:
    """Restarting is for processes that hang, readiness for those that cannot store."""
    container = manifests.pod_of(manifests.find(objects, "Deployment"))["containers"][0]
    for name, service in {"startupProbe": "", "livenessProbe": "", "readinessProbe": "readiness"}.items():
        asked = container.get(name, {}).get("grpc", {})
        if asked.get("service") != service:
            yield f"{name} must ask for gRPC's health service {service!r}"
        if asked.get("port") not in [port["containerPort"] for port in container["ports"]]:
            yield f"{name} asks a port that the container does not name"
    start = container.get("startupProbe", {})
    # `--database-wait`, unless it is set.
    wait = units.seconds(_settings(objects).get("WAVEKEEP_DATABASE_WAIT", "30s"))
    if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) <= wait:
        yield "the startup probe gives up before the server does"


def confinement(objects: list[Manifest]) -> Iterator[str]:
    """No privilege, no token, nothing from the cluster in the environment."""
    for workload in (o for o in objects if o["kind"] in {"Deployment", "Job"}):
        name, pod = workload["metadata"]["name"], manifests.pod_of(workload)
        if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
            yield f"{name}: automountServiceAccountToken and enableServiceLinks must be false"
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: runAsNonRoot and seccompProfile RuntimeDefault"
        for container in pod["containers"]:
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if container.get("securityContext") != wanted:
                yield f"{name}: the container's securityContext must be {wanted}"
            if "memory" not in container["resources"]["limits"] or "cpu" not in container["resources"]["requests"]:
                yield f"{name}: a limit of memory and a request of CPU"


def secrets(objects: list[Manifest]) -> Iterator[str]:
    """By reference only."""
    for manifest in objects:
        if manifest["kind"] == "Secret" or "postgres://" in str(manifest):
            yield f"{manifest['kind']} {manifest['metadata']['name']} holds a secret"


def selection(objects: list[Manifest]) -> Iterator[str]:
    """Service and disruption budget mean the Deployment's pods, and no Job's; one of them may always go."""
    deployment = manifests.find(objects, "Deployment")
    budget = manifests.find(objects, "PodDisruptionBudget")["spec"]
    service = manifests.find(objects, "Service")["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    job = manifests.find(objects, "Job")["spec"]["template"]["metadata"]["labels"].items()
    selectors = {
        "Deployment": deployment["spec"]["selector"]["matchLabels"],
        "PodDisruptionBudget": budget["selector"]["matchLabels"],
        "Service": service["selector"],
        **{
            f"spread over {spread['topologyKey']}": spread["labelSelector"]["matchLabels"]
            for spread in manifests.pod_of(deployment)["topologySpreadConstraints"]
        },
    }
    for name, selector in selectors.items():
        if not selector.items() <= labels:
            yield f"{name} does not select the server's pods"
        if selector.items() <= job:
            yield f"{name} selects the migration's pod"
    if deployment["spec"]["replicas"] < 2 or budget.get("maxUnavailable") != 1:
        yield "one server must be able to go while another serves"
    names = [port["name"] for port in manifests.pod_of(deployment)["containers"][0]["ports"]]
    if not all(port["targetPort"] in names for port in service["ports"]):
        yield "the Service's port is none of the container's"


ALL = [grace, memory, probes, confinement, secrets, selection]


def broken(objects: list[Manifest]) -> list[str]:
    """By all rules."""
    return [text for rule in ALL for text in rule(objects)]
