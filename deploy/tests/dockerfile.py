"""What an image's last stage says about how its programs are run.

Only what deploy/Dockerfile uses is known; anything else is refused, because it could change how a program starts.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

_WITHOUT_EFFECT_HERE = {"RUN", "COPY"}


class RefusedError(ValueError):
    """An instruction that these checks do not understand, or do not want."""


@dataclass
class Image:
    """As `docker image inspect` would say it."""

    base: str
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"
    stop_signal: str = "SIGTERM"
    ports: list[int] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """Names and arguments, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        name, _, rest = line.partition(" ")
        found.append((name.upper(), rest.strip()))
    return found


def _exec_form(name: str, rest: str) -> list[str]:
    try:
        words = json.loads(rest)
    except json.JSONDecodeError:
        raise RefusedError(f"{name} {rest}: a shell would stand between the engine's signals and the program") from None
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise RefusedError(f"{name} {rest}: not a list of words")
    return words


def parse(text: str) -> Image:
    """The last stage of a Dockerfile."""
    image: Image | None = None
    for name, rest in instructions(text):
        if name == "FROM":
            image = Image(base=rest.split()[0])
            continue
        if image is None:
            raise RefusedError(f"{name} before FROM")
        match name:
            case "ENTRYPOINT":
                image.entrypoint, image.cmd = _exec_form(name, rest), []
            case "CMD":
                image.cmd = _exec_form(name, rest)
            case "ENV":
                image.env |= dict(word.split("=", 1) for word in shlex.split(rest))
            case "USER":
                image.user = rest
            case "WORKDIR":
                image.workdir = rest
            case "EXPOSE":
                image.ports += map(int, rest.split())
            case "STOPSIGNAL":
                image.stop_signal = rest
            case _ if name in _WITHOUT_EFFECT_HERE:
                pass
            case _:
                raise RefusedError(f"{name} is not known here: teach these checks what it does")
    if image is None:
        raise RefusedError("no FROM")
    return image


def read(path: Path) -> Image:
    """The same, of a file."""
    return parse(path.read_text())
