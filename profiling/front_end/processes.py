"""Processes of the server and of the stand-in for the engine."""

import http.client
import os
import socket
import subprocess  # nosec B404  # of this Python alone
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from profiling.front_end.client import HOST, FrontEndError
from profiling.front_end.engine import RECORD
from profiling.front_end.streams import Record

# No downloads, no reports of usage, no memory for keys and values.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
_START_S, _STOP_S = 300, 30  # patience
_LOG = "server.log"


@dataclass(frozen=True)
class Cores:
    """Cores that processes are pinned to; -1: not pinned.

    Attributes:
        server: Core of the server.
        rest: Core of the engine and of the client.
    """

    server: int = -1
    rest: int = -1

    @classmethod
    def of(cls, text: str | None) -> "Cores":
        """Read `SERVER,REST`.

        Raises:
            FrontEndError: These are not two different cores that this process may use.
        """
        if text is None:
            return cls()
        parts = text.split(",")
        allowed = os.sched_getaffinity(0)
        if len(parts) != 2 or not all(part.isdecimal() and int(part) in allowed for part in parts):
            cores = ",".join(map(str, sorted(allowed)))
            raise FrontEndError(f"--cores must be two of the cores {cores}, as SERVER,REST; got {text}")
        server, rest = map(int, parts)
        if server == rest:
            raise FrontEndError(f"--cores must be two different cores, got {text}")
        return cls(server, rest)


class FrontEnd:
    """A running server with a stand-in for its engine.

    Attributes:
        port: Port of the server.
        pid: Process of the server.
    """

    def __init__(self, folder: Path, port: int, server: "_Process", engine: "_Process") -> None:
        self.port = port
        self.pid = server.pid
        self._folder = folder
        self._server = server
        self._engine = engine

    def wait_until_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            FrontEndError: A process ends before, or it takes too long.
        """
        end_s = time.monotonic() + _START_S
        while not self._is_healthy():
            for process in (self._server, self._engine):
                if process.poll() is not None:
                    raise FrontEndError(f"vLLM does not start: {_last_line(self._folder / _LOG)}")
            if time.monotonic() > end_s:
                raise FrontEndError(f"vLLM does not start within {_START_S} s: {_last_line(self._folder / _LOG)}")
            time.sleep(0.2)

    def stop(self) -> Record:
        """Stop both processes and return the engine's record.

        Raises:
            FrontEndError: The engine has failed.
        """
        for process in (self._engine, self._server):
            _stop(process)
        if not (self._folder / RECORD).exists():
            raise FrontEndError(f"the stand-in for the engine has failed: {_last_line(self._folder / _LOG)}")
        return Record.read(self._folder / RECORD)

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


_Process = subprocess.Popen[bytes]


@contextmanager
def running(folder: Path, step_s: float, cores: Cores) -> Iterator[FrontEnd]:
    """Start server and engine; stop them at the end.

    Args:
        folder: Folder of the model; also takes sockets, log and record.
        step_s: Seconds between two steps of the engine.
        cores: Cores of the processes.
    """
    addresses = [f"ipc://{folder / name}" for name in ("input.sock", "output.sock")]
    port = _free_port()
    served = ["--model", str(folder), "--host", HOST, "--port", str(port)]
    with ExitStack() as cleanup, (folder / _LOG).open("wb") as log:
        server = _started("server", [str(cores.server), *addresses, *served], log.fileno())
        cleanup.callback(_stop, server)
        engine = _started("engine", [str(cores.rest), str(folder), str(step_s), *addresses], log.fileno())
        cleanup.callback(_stop, engine)
        front_end = FrontEnd(folder, port, server, engine)
        front_end.wait_until_ready()
        yield front_end


def _started(module: str, arguments: list[str], log: int) -> _Process:
    command = [sys.executable, "-m", f"profiling.front_end.{module}", *arguments]
    environment = {**os.environ, **_ENVIRONMENT}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)  # nosec B603


def _stop(process: _Process) -> None:
    """Close the standard input of a process, at which it ends."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
