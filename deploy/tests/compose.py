"""compose.yaml as its engine reads it: only the keys that it uses are known here, any other is refused."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import units
from dockerfile import Image

# Those that the runner acts on, and those that need a container engine and do not change what is run.
_ACTED_ON = {"command", "environment", "depends_on", "healthcheck", "volumes", "ports", "stop_grace_period", "build"}
_THE_ENGINES = {"image", "restart", "read_only", "cap_drop", "security_opt", "shm_size", "mem_limit"}


class RefusedError(ValueError):
    """A key or a form that these checks do not understand."""


@dataclass
class Service:
    """One service, defaults filled in."""

    name: str
    image: str
    built: bool
    command: list[str]
    environment: dict[str, str]
    # Service to condition.
    depends_on: dict[str, str]
    health_check: list[str] | None
    # Volume to path.
    volumes: dict[str, str]
    # The container's.
    ports: list[int]
    stop_grace_seconds: float
    memory_bytes: int | None = None
    published: list[str] = field(default_factory=list)

    def argv(self, image: Image) -> list[str]:
        """What the engine runs in a container of the image: the image's entrypoint, then the command."""
        return image.entrypoint + (self.command or image.cmd)

    def variables(self, image: Image) -> dict[str, str]:
        """The image's, and the service's own over them."""
        return image.env | self.environment


def _interpolated(value: Any, variables: dict[str, str]) -> Any:
    """`${NAME:-default}` and `$$`; any other dollar is refused."""
    if isinstance(value, dict):
        return {key: _interpolated(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolated(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] is None:
            raise RefusedError(f"{value!r}: of variables only ${{NAME:-default}} is known here")
        return variables.get(found[1]) or found[2]

    return re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}|\$", replaced, value)


def _health_check(name: str, given: dict[str, Any]) -> list[str] | None:
    if given == {"disable": True}:
        return None
    test = given.get("test")
    if not (isinstance(test, list) and test[0] == "CMD"):
        raise RefusedError(f"{name}: a health check is a list that begins with CMD, and has no shell")
    return [str(word) for word in test[1:]]


def _service(name: str, given: dict[str, Any]) -> Service:
    unknown = given.keys() - _ACTED_ON - _THE_ENGINES
    if unknown:
        raise RefusedError(f"{name}: {sorted(unknown)} not known here: teach these checks what it does")
    command = given.get("command", [])
    if not isinstance(command, list):
        raise RefusedError(f"{name}: a command is a list of words, so that no shell swallows its signals")
    environment = given.get("environment", {})
    if not all(isinstance(value, str) for value in environment.values()):
        raise RefusedError(f"{name}: quote the values of the environment")
    if "healthcheck" not in given:
        raise RefusedError(f"{name}: no health check, and none that is disabled with a reason")
    published = given.get("ports", [])
    return Service(
        name=name,
        image=given["image"],
        built="build" in given,
        command=[str(word) for word in command],
        environment=environment,
        depends_on={on: how["condition"] for on, how in given.get("depends_on", {}).items()},
        health_check=_health_check(name, given["healthcheck"]),
        volumes=dict(volume.split(":", 1) for volume in given.get("volumes", [])),
        ports=[int(port.rsplit(":", 1)[1]) for port in published],
        stop_grace_seconds=units.seconds(given.get("stop_grace_period", "10s")),
        memory_bytes=units.size(given["mem_limit"]) if "mem_limit" in given else None,
        published=published,
    )


def parse(text: str, variables: dict[str, str] | None = None) -> dict[str, Service]:
    """All services by name; `variables` are those of the shell that calls the engine."""
    given = _interpolated(yaml.safe_load(text), dict(os.environ) if variables is None else variables)
    return {name: _service(name, service) for name, service in given["services"].items()}


def read(path: Path, variables: dict[str, str] | None = None) -> dict[str, Service]:
    """The same, of a file."""
    return parse(path.read_text(), variables)


def start_order(services: dict[str, Service]) -> list[Service]:
    """Each after those that it depends on."""
    ordered: list[Service] = []
    while len(ordered) < len(services):
        there = {service.name for service in ordered}
        ready = [s for s in services.values() if s.name not in there and s.depends_on.keys() <= there]
        if not ready:
            raise RefusedError("services wait for each other, or for one that does not exist")
        ordered += ready
    return ordered
