"""k8s/: rendered, against Kubernetes' own schemas, and against what the server needs."""

import copy
import re
import tomllib
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest

import dockerfile
import host
import manifests
import rules
from conftest import TREE
from manifests import Manifest

BASE, DEV = manifests.K8S / "base", manifests.K8S / "overlays/dev"
# The oldest that docs/OPERATIONS.md promises, and the newest that there is a schema of.
VERSIONS = ["1.30", "1.37"]


@pytest.fixture(scope="module", params=[BASE, DEV], ids=["base", "dev"])
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    """Rendered."""
    return manifests.render(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_to_the_letter(objects: list[Manifest], version: str) -> None:
    """Strict: a field that the schema does not know is an error."""
    for manifest in objects:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_kind_is_there(objects: list[Manifest]) -> None:
    """And nothing that was not meant."""
    kinds = sorted(manifest["kind"] for manifest in objects if manifest["kind"] != "Namespace")
    assert kinds == ["ConfigMap", "Deployment", "Job", "PodDisruptionBudget", "Service", "ServiceAccount"]


def test_no_rule_is_broken(objects: list[Manifest]) -> None:
    """See `rules`."""
    assert rules.broken(objects) == []


def test_the_overlay_has_a_namespace_and_a_tag() -> None:
    """Everything lives in it; the same image everywhere."""
    objects = manifests.render(DEV)
    namespace = manifests.find(objects, "Namespace")["metadata"]["name"]
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] != "Namespace"} == {namespace}
    images = {manifests.pod_of(o)["containers"][0]["image"] for o in objects if o["kind"] in {"Deployment", "Job"}}
    assert images == {"wavekeep:dev"}


def test_a_changed_setting_is_a_rolling_restart() -> None:
    """The ConfigMap's name has a hash of it, and the Deployment uses that name."""
    names = {manifests.find(manifests.render(at), "ConfigMap")["metadata"]["name"] for at in (BASE, DEV)}
    assert len(names) == 2
    assert all(re.fullmatch(r"wavekeep-server-[a-z0-9]{10}", name) for name in names)


def test_the_account_is_the_images(objects: list[Manifest], image: dockerfile.Image) -> None:
    """It owns the directories that it may write."""
    for workload in (o for o in objects if o["kind"] in {"Deployment", "Job"}):
        security = manifests.pod_of(workload)["securityContext"]
        assert f"{security['runAsUser']}:{security['runAsGroup']}" == image.user


def test_every_variable_is_one_that_the_server_reads(
    objects: list[Manifest], image: dockerfile.Image, machine: host.Host
) -> None:
    """By its own help: a slip that is further off than a letter is refused by nobody else."""
    secrets = {"wavekeep-database": {"url": "unused"}}
    for kind in ("Deployment", "Job"):
        program = manifests.program(manifests.pod_of(manifests.find(objects, kind)), objects, image, secrets)
        said = machine.run([*program.argv[:2], "--help"], {}, program.user).log.read_text()
        unread = [name for name in program.environment if name not in image.env and f"env: {name}" not in said]
        assert unread == []


Change = Callable[[Any, Any, Any], None]


@pytest.mark.parametrize(
    ("slip", "where"),
    [
        ("terminationGracePeriodSecond", ["spec", "template", "spec"]),
        ("readOnlyRootFileSystem", ["spec", "template", "spec", "containers", 0, "securityContext"]),
        ("servise", ["spec", "template", "spec", "containers", 0, "livenessProbe", "grpc"]),
    ],
)
def test_a_misspelt_field_is_noticed(slip: str, where: list[str | int]) -> None:
    """By the schemas."""
    deployment = copy.deepcopy(manifests.find(manifests.render(DEV), "Deployment"))
    at: Any = deployment
    for step in where:
        at = at[step]
    at[slip] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def _set(path: str, value: Any) -> Change:
    def change(pod: Any, _container: Any, _settings: Any) -> None:
        *steps, last = path.split(".")
        at = pod
        for step in steps:
            at = at[int(step)] if step.isdigit() else at[step]
        at[last] = value

    return change


BREACHES: dict[str, tuple[Change, str]] = {
    "grace under the drain": (_set("terminationGracePeriodSeconds", 20), "terminationGracePeriodSeconds"),
    "the default grace": (lambda pod, *_: pod.pop("terminationGracePeriodSeconds"), "terminationGracePeriodSeconds"),
    "a longer drain": (lambda *all_of: all_of[2].update(WAVEKEEP_DRAIN="40s"), "terminationGracePeriodSeconds"),
    "a larger budget": (lambda *all_of: all_of[2].update(WAVEKEEP_MEMORY_BUDGET="1GiB"), "memory limit"),
    "liveness by readiness": (_set("containers.0.livenessProbe.grpc.service", "readiness"), "livenessProbe"),
    "readiness by liveness": (_set("containers.0.readinessProbe.grpc.service", ""), "readinessProbe"),
    "a probe of another port": (_set("containers.0.readinessProbe.grpc.port", 7462), "port"),
    "an impatient start": (_set("containers.0.startupProbe.failureThreshold", 5), "startup"),
    "root": (lambda pod, *_: pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
    "a writable root": (_set("containers.0.securityContext.readOnlyRootFilesystem", False), "securityContext"),
    "a token": (_set("automountServiceAccountToken", True), "automountServiceAccountToken"),
    "links to services": (lambda pod, *_: pod.pop("enableServiceLinks"), "enableServiceLinks"),
    "no limit": (_set("containers.0.resources.limits", {"memory": "1Mi"}), "memory limit"),
    "a password": (_set("containers.0.args", ["serve", "--database-url=postgres://u:p@db/d"]), "secret"),
    "other ports": (_set("containers.0.ports", [{"name": "api", "containerPort": 7460}]), "Service"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_broken_rule_is_noticed(breach: str) -> None:
    """Each of them."""
    change, complaint = BREACHES[breach]
    objects = copy.deepcopy(manifests.render(BASE))
    pod = manifests.pod_of(manifests.find(objects, "Deployment"))
    change(pod, pod["containers"][0], manifests.find(objects, "ConfigMap")["data"])
    assert any(complaint in text for text in rules.broken(objects))


def test_the_version_of_rust_is_the_workspaces() -> None:
    """The image's compiler is not older than what the workspace asks for."""
    wanted = tomllib.loads((TREE / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert f"FROM rust:{wanted}." in (TREE / "deploy/Dockerfile").read_text()
