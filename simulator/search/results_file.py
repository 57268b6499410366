"""File of simulated deployments, from which a search resumes."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from simulator.search.outcomes import Candidate, Outcome

_POLL_S = 0.2


class ResultsFile:
    """Simulated deployments in a file that processes may share.

    One JSON object per line, behind a line with the identity of the search. Lines are appended whole and reach the
    disk before the next simulation starts. What a killed process left of a line is removed.

    Attributes:
        was_cut: Whether such a line was removed when the file was opened.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Open the file, or create it.

        Args:
            path: The file.
            identity: What all outcomes depend on besides the candidate.

        Raises:
            ValueError: The file is of something else, or damaged.
            OSError: It cannot be read, written or locked.
        """
        self._path = path
        self._outcomes: dict[str, Outcome] = {}
        self._offset = self._num_lines = 0
        head = json.dumps({"search": identity}, sort_keys=True).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._beside("lock"), wait=True):
            content = path.read_bytes() if path.exists() else b""
            is_new = b"\n" not in content and head.startswith(content)
            if not is_new:
                self._require_same(identity, content.partition(b"\n")[0])
            self.was_cut = not is_new and not content.endswith(b"\n")
            self._append(head if is_new else b"")
        self._read()

    def evaluate(self, candidates: Sequence[Candidate], simulate: Callable[[Candidate], Outcome]) -> Outcome:
        """Return the outcome of the first candidate, simulated or read.

        While another process simulates it, the other candidates are simulated.

        Raises:
            ValueError: The file is damaged.
            OSError: It cannot be read, written or locked.
        """
        wanted = _key(candidates[0])
        self._read()
        while wanted not in self._outcomes:
            if not any(self._simulate(candidate, simulate) for candidate in candidates):
                time.sleep(_POLL_S)
            self._read()
        return self._outcomes[wanted]

    def _simulate(self, candidate: Candidate, simulate: Callable[[Candidate], Outcome]) -> bool:
        """Simulate a candidate, unless it is known or taken; return whether."""
        key = _key(candidate)
        if key in self._outcomes:
            return False
        with _locked(self._beside(f"{key}.lock"), wait=False) as is_ours:
            if is_ours:
                self._read()
            if is_ours and key not in self._outcomes:
                line = json.dumps({"candidate": key, "outcome": asdict(simulate(candidate))}, allow_nan=False)
                with _locked(self._beside("lock"), wait=True):
                    self._append(line.encode() + b"\n")
        return is_ours

    def _require_same(self, identity: Mapping[str, Any], line: bytes) -> None:
        """Check that a first line has the identity."""
        try:
            written = dict(json.loads(line)["search"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path} exists and is not a file of a search") from error
        expected = json.loads(json.dumps(identity))
        names = sorted({*written, *expected})
        if differing := [name for name in names if written.get(name) != expected.get(name)]:
            raise ValueError(f"{self._path} is of another search ({', '.join(differing)}): choose another file")

    def _read(self) -> None:
        """Read the lines that were added."""
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            added = file.read()
        for line in added[: added.rfind(b"\n") + 1].splitlines(keepends=True):
            self._offset += len(line)
            self._num_lines += 1
            if self._num_lines > 1:
                self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            parts = json.loads(line)
            self._outcomes.setdefault(parts["candidate"], Outcome(**parts["outcome"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: line {self._num_lines} is damaged, delete it") from error

    def _append(self, lines: bytes) -> None:
        """Append to the last whole line; the caller has locked the file."""
        with open(self._path, "a+b") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{suffix}")


def _key(candidate: Candidate) -> str:
    """Return a digest of everything in a candidate."""
    return hashlib.sha256(repr(candidate).encode()).hexdigest()[:16]


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock and yield whether it is held.

    The system drops it when the process ends.
    """
    # The fallback of filelock, the mere existence of the file, would outlive a process killed on another machine.
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(PermissionError):  # Windows: it is open, and removed with the lock
            path.unlink(missing_ok=True)
        lock.release()
