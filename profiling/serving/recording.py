"""A recording of a served trace, and its files.

A folder has `recording.json` (engine, configuration, machine, date), `requests.csv.gz` and `iterations.csv.gz`.
docs/profiling.md describes every column.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiling.serving.loop import Chunk, Iteration, Served
from profiling.tables import Header, write_gzipped
from traces import Trace
from traces.shared.atomic_files import write_atomic

RECORDING, REQUESTS, ITERATIONS = "recording.json", "requests.csv.gz", "iterations.csv.gz"
# The clock has nanosecond resolution.
SECONDS = "%.9f"
REQUEST_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "first_token_s", "completed_s")


@dataclass(frozen=True)
class Recording:
    """A served trace and its configuration.

    Attributes:
        name: Name of the folder.
        header: Device and source.
        on: Device that ran it: "cuda" or "cpu".
        overrides: Configuration of the simulator, as on its command line; its scheduler decided the batches.
        trace: The requests.
        served: Their iterations and times.
    """

    name: str
    header: Header
    on: str
    overrides: Sequence[str]
    trace: Trace
    served: Served

    def write(self, folder: Path) -> None:
        """Write into a folder; recording.json comes last and marks the recording complete."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORDING).unlink(missing_ok=True)
        write_gzipped(folder / REQUESTS, self._requests(), SECONDS)
        write_gzipped(folder / ITERATIONS, self._iterations(), SECONDS)
        plain = {"on": self.on, "overrides": list(self.overrides), **asdict(self.header)}
        write_atomic(folder / RECORDING, (json.dumps(plain, indent=1) + "\n").encode())

    def _requests(self) -> pd.DataFrame:
        trace, served = self.trace, self.served
        values = (trace.arrival_s, trace.prompt_tokens, trace.output_tokens, served.first_token_s, served.completed_s)
        return pd.DataFrame(dict(zip(REQUEST_COLUMNS, values, strict=True)))

    def _iterations(self) -> pd.DataFrame:
        rows = [{field.name: getattr(step, field.name) for field in fields(step)} for step in self.served.iterations]
        table = pd.DataFrame(rows, columns=[field.name for field in fields(Iteration)])
        table["chunks"] = [" ".join(map(_text_of, chunks)) for chunks in table["chunks"]]
        table["preempted"] = [" ".join(map(str, requests)) for requests in table["preempted"]]
        return table

    @classmethod
    def read(cls, folder: Path) -> "Recording":
        """Read the recording of a folder.

        Raises:
            ValueError: The folder has no valid recording; the message is one line.
        """
        path = folder / RECORDING
        try:
            plain = json.loads(path.read_text())
            on, overrides = plain.pop("on"), plain.pop("overrides")
            requests, iterations = (_read(folder / name) for name in (REQUESTS, ITERATIONS))
            numbers = {name: requests[name].to_numpy() for name in REQUEST_COLUMNS}
            return cls(
                name=folder.resolve().name,
                header=Header(**plain),
                on=on,
                overrides=overrides,
                trace=Trace(numbers["prompt_tokens"], numbers["output_tokens"], numbers["arrival_s"]),
                served=Served(
                    [_iteration(row) for row in iterations.to_dict("records")],
                    numbers["first_token_s"],
                    numbers["completed_s"],
                ),
            )
        except OSError as error:
            raise ValueError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
        except (KeyError, ValueError, TypeError, EOFError) as error:
            raise ValueError(f"{folder} has no valid recording: {' '.join(str(error).split())}") from error


def recording_folders(folder: Path) -> list[Path]:
    """Return the recording folders in a folder, itself included, at any depth.

    Raises:
        ValueError: The folder has no recording.
    """
    folders = sorted(path.parent for path in folder.rglob(RECORDING))
    if not folders:
        raise ValueError(f"{folder} has no recording: no {RECORDING} in it or below")
    return folders


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in REQUEST_COLUMNS})


def _text_of(chunk: Chunk) -> str:
    return ":".join(map(str, chunk))


def _chunk(text: str) -> Chunk:
    request, num_tokens, context_tokens = map(int, text.split(":"))
    return request, num_tokens, context_tokens


def _iteration(row: dict[Any, Any]) -> Iteration:
    chunks = [_chunk(text) for text in str(row.pop("chunks")).split()]
    preempted = [int(one) for one in str(row.pop("preempted")).split()]
    return Iteration(**row, chunks=chunks, preempted=preempted)


def seconds_of(served: Served) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the seconds of each iteration: float64[num_iterations]."""
    return np.array([step.end_s - step.start_s for step in served.iterations])
