"""The Dockerfile: linted, and what its image runs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import dockerfile
import host
from conftest import TREE

DOCKERFILE = TREE / "deploy/Dockerfile"


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    """All of its rules; those that do not fit say why where they are switched off."""
    return subprocess.run(
        ["hadolint", "--no-color", str(path)], check=False, capture_output=True, text=True, timeout=60
    )


def test_hadolint_has_nothing_to_say() -> None:
    """Neither errors nor advice."""
    found = hadolint(DOCKERFILE)
    assert found.returncode == 0, found.stdout


def test_hadolint_would_notice(tmp_path: Path) -> None:
    """It is not switched off altogether."""
    worse = tmp_path / "Dockerfile"
    worse.write_text(re.sub(r"FROM debian:\S+", "FROM debian", DOCKERFILE.read_text()))
    assert "DL3006" in hadolint(worse).stdout


def test_the_account_is_a_number_and_not_root(image: dockerfile.Image) -> None:
    """Kubernetes' runAsNonRoot reads numbers only."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)
    assert image.stop_signal == "SIGTERM"


def test_bases_are_pinned() -> None:
    """A version and a distribution each, so that a build of the same commit is the same next year."""
    for name, rest in dockerfile.instructions(DOCKERFILE.read_text()):
        if name == "FROM":
            assert re.search(r":\d+\.\d+", rest.split()[0]), rest


def test_a_shell_before_the_program_is_refused() -> None:
    """It would take SIGTERM for itself."""
    text = DOCKERFILE.read_text()
    with pytest.raises(dockerfile.RefusedError, match="shell"):
        dockerfile.parse(text + "CMD wavekeep-server serve\n")
    with pytest.raises(dockerfile.RefusedError, match="not known"):
        dockerfile.parse(text + 'SHELL ["bash", "-c"]\n')


def test_the_image_has_every_program() -> None:
    """Those that `make build` makes."""
    makefile = re.search(r"^BINARIES := (.*)$", (TREE / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert sorted(makefile[1].split()) == sorted(host.PROGRAMS)
    built = next(rest for name, rest in dockerfile.instructions(DOCKERFILE.read_text()) if "cargo build" in rest)
    for program in host.PROGRAMS:
        assert re.search(rf"target/release/{program}\b(?!-)", built), program
        assert re.search(rf"--package {program}\b(?!-)", built), program


def test_the_base_has_every_library() -> None:
    """The image installs libusb, which brings libudev. libc and the C++ library are there: Debian's package manager
    needs them."""
    final = [rest for _, rest in dockerfile.instructions(DOCKERFILE.read_text()) if "apt-get install" in rest][-1]
    assert "libusb-1.0-0 " in final
    for program in host.PROGRAMS:
        listed = subprocess.run(
            ["ldd", str(host.built_programs() / program)], check=True, capture_output=True, text=True, timeout=60
        )
        needed = {Path(line.split()[0]).name.split(".so")[0] for line in listed.stdout.splitlines()}
        base = {"linux-vdso", "ld-linux-x86-64", "ld-linux-aarch64", "libc", "libm", "libgcc_s", "libstdc++"}
        # libudev asks for the threads that are a part of libc.
        base |= {"libusb-1.0", "libudev", "libpthread", "librt", "libdl"}
        assert needed <= base, (program, needed - base)


def test_the_image_says_how_it_is_used(image: dockerfile.Image, machine: host.Host) -> None:
    """Run as it is, it prints the help."""
    running = machine.run(image.entrypoint + image.cmd, image.env, image.user)
    assert running.process.returncode == 0
    assert "Usage: wavekeep-server" in running.log.read_text()


def test_the_build_context_is_all_that_cargo_reads() -> None:
    """Every member of the workspace, and every file that is compiled in, passes .dockerignore; the caches do not."""
    lines = (TREE / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert all(pattern.startswith("!") for pattern in patterns[1:-1])
    let_in = {pattern[1:] for pattern in patterns[1:-1]}
    workspace = tomllib.loads((TREE / "Cargo.toml").read_text())["workspace"]
    needed = {Path(member).parts[0] for member in workspace["members"]} | {"Cargo.toml", "Cargo.lock", ".cargo"}
    for member in workspace["members"]:
        for source in (TREE / member).rglob("*.rs"):
            for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
                needed.add((source.parent / included).resolve().relative_to(TREE).parts[0])
    assert needed <= let_in
    assert patterns[-1] == "**/target"
