"""Merging the results of parts of a cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.log import NO_REPLICA, Stays
from simulator.results.replica import ReplicaResult
from simulator.results.result import Result


@dataclass(frozen=True)
class PartOfResult:
    """Result of some replicas and of the requests sent to them.

    Attributes:
        rows: int64[n], the part's requests in the whole run.
        replicas: Numbers of its replicas in the whole run.
        result: Its result.
    """

    rows: NDArray[np.int64]
    replicas: Sequence[int]
    result: Result

    @property
    def logs(self) -> dict[int, ReplicaResult]:
        """Logs of its replicas, by their numbers in the whole run."""
        logs = zip(self.replicas, self.result.replicas, strict=True)
        return {number: log.renumbered(self.rows) for number, log in logs}

    @property
    def stays(self) -> Stays:
        """Its stays, with requests and replicas of the whole run."""
        stays = self.result.stays
        return replace(stays, request=self.rows[stays.request], replica=self._numbers(stays.replica))

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Its requests by column, without ids.

        Replicas are those of the whole run.
        """
        requests = {name: column for name, column in self.result.requests.items() if name != "request_id"}
        return {**requests, "replica": self._numbers(requests["replica"])}

    def _numbers(self, replica: NDArray[np.int64]) -> NDArray[np.int64]:
        # NO_REPLICA is the last index.
        assert NO_REPLICA == -1
        return np.array([*self.replicas, NO_REPLICA])[replica]


def merged(parts: Iterable[PartOfResult], num_requests: int, request_ids: NDArray[Any]) -> Result:
    """Merge the results of the parts of a run.

    Each request and each replica is in one of them.

    Args:
        parts: The parts; each is dropped when it is merged.
        num_requests: Requests of the whole run.
        request_ids: Their ids, as in requests.csv.
    """
    columns: dict[str, NDArray[Any]] = {}
    logs: dict[int, ReplicaResult] = {}
    stays, end_s, status, first = [], 0.0, np.zeros(num_requests, dtype=np.int64), None
    for part in parts:
        first = first or part.result
        for name, values in part.columns.items():
            if name not in columns:
                columns[name] = np.zeros(num_requests, dtype=values.dtype)
            columns[name][part.rows] = values
        status[part.rows] = part.result.status
        logs |= part.logs
        stays.append(part.stays)
        end_s = max(end_s, part.result.end_s)
    assert first is not None
    return replace(
        first,
        requests={"request_id": request_ids, **columns},
        status=status,
        replicas=[logs[number] for number in sorted(logs)],
        stays=_in_order(stays),
        end_s=end_s,
    )


def _in_order(parts: Sequence[Stays]) -> Stays:
    """Return the stays of all parts in order of their begin.

    Each request has at most one stay, and requests arrive in order of their numbers.
    """
    order = np.argsort(np.concatenate([part.request for part in parts]))
    names = [field.name for field in fields(Stays)]
    return Stays(**{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names})
