"""Containers that a command line starts: `docker run`."""

from collections.abc import Sequence

_PROGRAMS = ("docker", "podman", "nerdctl")
# Options without a value; every other one has a value, behind `=` or in the next word.
_SWITCHES = frozenset(
    f"--{name}"
    for name in (
        *("detach", "disable-content-trust", "env-host", "help", "http-proxy", "init", "interactive", "no-healthcheck"),
        *("no-hostname", "no-hosts", "oom-kill-disable", "passwd", "privileged", "publish-all", "quiet", "read-only"),
        *("read-only-tmpfs", "replace", "rm", "rmi", "sig-proxy", "tls-verify", "tty", "use-api-socket"),
    )
)
_SHORT_SWITCHES = frozenset("ditPqh")


def run_container(words: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """Return the variables of a container and its words.

    The words are its image or entry point, and the arguments. None: the command starts no container.
    """
    names = [word.rpartition("/")[2] for word in words]
    starts = [index for index, name in enumerate(names[:-1]) if name in _PROGRAMS and names[index + 1] != "compose"]
    if not starts or "run" not in words[starts[0] :]:
        return None
    rest = list(words[words.index("run", starts[0]) + 1 :])
    settings: list[str] = []
    entry = []
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option = rest.pop(0)
        name, equals, value = option.partition("=")
        if name in _SWITCHES or (not name.startswith("--") and _SHORT_SWITCHES.issuperset(name[1:])):
            continue
        is_attached = not name.startswith("--") and name[1] not in _SHORT_SWITCHES and len(name) > 2
        if is_attached:  # as in -eNAME=VALUE
            name, value = option[:2], option[2:]
        elif not equals:
            value = rest.pop(0) if rest else ""
        if name in ("-e", "--env"):
            settings.append(value)
        if name == "--entrypoint" and value:
            entry = [value]
    variables = dict(setting.split("=", 1) for setting in settings if "=" in setting)
    return variables, [*(entry or rest[:1]), *rest[1:]]
