"""The manifests under k8s/: rendered by kustomize (kubectl has it built in), and what a kubelet makes of them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dockerfile import Image

K8S = Path(__file__).resolve().parents[2] / "k8s"
Manifest = dict[str, Any]


class RefusedError(ValueError):
    """Something that these checks do not understand, or that the cluster would not find."""


def render(directory: Path) -> list[Manifest]:
    """All objects of a kustomization."""
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(directory)], check=False, capture_output=True, text=True, timeout=60
    )
    if rendered.returncode != 0:
        raise RefusedError(rendered.stderr)
    # kustomize warns of what is deprecated, and goes on.
    if rendered.stderr:
        raise RefusedError(rendered.stderr)
    return list(yaml.safe_load_all(rendered.stdout))


def find(objects: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only one of its kind, or of that name."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    if len(found) != 1:
        raise RefusedError(f"{len(found)} objects {kind} {name or ''}")
    return found[0]


@dataclass
class Program:
    """What a kubelet starts in a container."""

    argv: list[str]
    environment: dict[str, str]
    user: str


def _container(pod: Manifest) -> Manifest:
    containers: list[Manifest] = pod["containers"]
    if len(containers) != 1 or "initContainers" in pod:
        raise RefusedError("one container a pod is known here")
    return containers[0]


def _value(source: Manifest, objects: list[Manifest], secrets: dict[str, dict[str, str]]) -> str:
    match source:
        case {"secretKeyRef": {"name": name, "key": key}}:
            return secrets[name][key]
        case {"configMapKeyRef": {"name": name, "key": key}}:
            return str(find(objects, "ConfigMap", name)["data"][key])
    raise RefusedError(f"{source} is not known here")


def _environment(container: Manifest, objects: list[Manifest], secrets: dict[str, dict[str, str]]) -> dict[str, str]:
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if set(source) != {"configMapRef"}:
            raise RefusedError(f"{source} is not known here")
        environment |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        value = variable.get("value")
        environment[variable["name"]] = _value(variable["valueFrom"], objects, secrets) if value is None else value
    return environment


def program(pod: Manifest, objects: list[Manifest], image: Image, secrets: dict[str, dict[str, str]]) -> Program:
    """`command` replaces an image's entrypoint, `args` its command; variables of the pod go over the image's."""
    container = _container(pod)
    argv = (container.get("command") or image.entrypoint) + (container.get("args") or image.cmd)
    if any("$(" in word for word in argv):
        raise RefusedError("$(NAME) in a command is not known here")
    security = pod["securityContext"]
    return Program(
        argv=argv,
        environment=image.env | _environment(container, objects, secrets),
        user=f"{security['runAsUser']}:{security['runAsGroup']}",
    )


def pod_of(workload: Manifest) -> Manifest:
    """A Deployment's or a Job's."""
    pod: Manifest = workload["spec"]["template"]["spec"]
    return pod


def stop_seconds(pod: Manifest) -> int:
    """How long `preStop` sleeps before SIGTERM."""
    match _container(pod).get("lifecycle", {}):
        case {"preStop": {"sleep": {"seconds": int(seconds)}}}:
            return seconds
        case {}:
            return 0
    raise RefusedError("of preStop only sleep is known here")
