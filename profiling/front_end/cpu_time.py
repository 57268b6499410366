"""CPU time of a process and its event loop, from /proc (Linux)."""

from dataclasses import dataclass
from pathlib import Path

_NS = 1e-9


@dataclass(frozen=True)
class CpuTime:
    """CPU time of a process, in seconds.

    Attributes:
        loop_s: Of the main thread, which runs the event loop.
        process_s: Of all threads.
        waited_s: Time that the main thread was ready to run and had no core.
    """

    loop_s: float
    process_s: float
    waited_s: float

    @classmethod
    def of(cls, pid: int) -> "CpuTime":
        """Read the times of a process since its start.

        Raises:
            OSError: The process has ended, or the system has no such files.
        """
        loop_s, waited_s = _thread_times(Path(f"/proc/{pid}/task/{pid}/schedstat"))
        process_s = 0.0
        for folder in Path(f"/proc/{pid}/task").iterdir():
            try:
                process_s += _thread_times(folder / "schedstat")[0]
            except OSError:
                continue  # the thread has ended
        return cls(loop_s, process_s, waited_s)

    def since(self, earlier: "CpuTime") -> "CpuTime":
        """Return the times between an earlier reading and this one."""
        return CpuTime(
            self.loop_s - earlier.loop_s, self.process_s - earlier.process_s, self.waited_s - earlier.waited_s
        )


def _thread_times(path: Path) -> tuple[float, float]:
    """Return the seconds that a thread ran and waited for a core."""
    ran_ns, waited_ns, _ = path.read_text().split()
    return int(ran_ns) * _NS, int(waited_ns) * _NS
