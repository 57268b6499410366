"""Result of a run: arrays by request and iteration, and their summary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time import describe_provenance, extent_of
from simulator.log import NO_REPLICA, Stays
from simulator.results.faults import FaultResult
from simulator.results.latency import Distribution, distributions
from simulator.results.overload import backlog
from simulator.results.prefix_cache import CACHED_TOKENS, prefix_cache_figures
from simulator.results.replica import ReplicaResult
from simulator.results.status import FINISHED, IGNORED, LOST, NOT_ARRIVED, STATUS_NAMES
from simulator.results.summary import cluster_totals, kv_use, replica_totals, stage_shares
from simulator.results.throughput import Throughput
from simulator.results.warnings import run_warnings
from traces import Client
from traces.shared.value_checks import flag, number
from traces.shared.warnings import Warning

if TYPE_CHECKING:
    import pandas as pd

REQUEST_COLUMNS = (
    "request_id",
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "first_scheduled_s",
    "first_token_s",
    "completed_s",
    "num_preemptions",
    "ignored",
    "replica",
)
# From the trace, from faults and from the prefix cache.
OPTIONAL_COLUMNS = ("session", "client", "priority", "num_retries", *CACHED_TOKENS)


@dataclass(frozen=True)
class MetricOptions:
    """Options of the metrics: which requests and gaps count.

    Attributes:
        warmup_s: Requests that arrive within this time of the first arrival are simulated but not measured.
        zero_first_gap: Count a TBT sample of 0 s for each first token, as Sarathi-Serve's artifact does.
    """

    warmup_s: float = 0.0
    zero_first_gap: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        number("warmup_s", self.warmup_s, 0)
        flag("zero_first_gap", self.zero_first_gap)


BATCH_COLUMNS = ("iteration", "start_s", "end_s", "request_id", "num_tokens", "phase", "replica")


@dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
        requests: Arrays by request, keys as in requests.csv; NaN for an event that did not happen. If the trace has
            them, also the session (int64, negative: none), the client (its index in `clients`) and the priority;
            with faults, num_retries: how often the gateway sent it again after failures; with a prefix cache, tokens
            found there at the first admission and at later ones.
        status: int64[num_requests]: FINISHED, IGNORED (too long), UNFINISHED (the time limit came first),
            STUCK (nothing could make progress), NOT_ARRIVED (would arrive after the time limit, or waited
            for a request that never ended) or LOST (a replica failed, and it was not sent again).
        replicas: Log of each replica.
        stays: When each request was at which replica.
        metrics: Which requests and gaps count.
        end_s: Time of the last event.
        notes: Warnings about the requests and the deployment.
        clients: Client classes.
        num_skipped: Malformed rows of the trace file that were skipped.
        has_prefixes: Whether the trace says what prompts share.
        num_broken_off: Turns that were not sent because an earlier turn of their session was ignored or lost.
        faults: Faults.
        only_client: Index of the client class that the figures are about; None: all requests.
    """

    requests: dict[str, NDArray[Any]]
    status: NDArray[np.int64]
    replicas: list[ReplicaResult]
    stays: Stays
    metrics: MetricOptions
    end_s: float
    notes: Sequence[Warning] = ()
    clients: Sequence[Client] = ()
    num_skipped: int = 0
    has_prefixes: bool = True
    num_broken_off: int = 0
    faults: FaultResult = field(default_factory=FaultResult)
    only_client: int | None = None

    def of_client(self, client: int) -> "Result":
        """Return the same run with the figures of one client class.

        Args:
            client: Index in `clients`.
        """
        return self if client == self.only_client else self._by_client[client]

    @cached_property
    def _by_client(self) -> list["Result"]:
        return [replace(self, only_client=client) for client in range(len(self.clients))]

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Requests that are measured: bool[num_requests], arrived after the warm-up."""
        arrival_s = self.requests["arrival_s"]
        warm = arrival_s >= np.nanmin(arrival_s) + self.metrics.warmup_s
        return np.asarray((self.status != NOT_ARRIVED) & warm & self._is_of_client)

    @cached_property
    def known_until_s(self) -> NDArray[np.float64]:
        """When each request was lost; `end_s` for the others.

        float64[num_requests], seconds.
        """
        until_s = np.full(len(self.status), self.end_s)
        until_s[self.status == LOST] = self.requests["arrival_s"][self.status == LOST]
        lost = self.stays.at(self.status[self.stays.request] == LOST)
        until_s[lost.request] = lost.left_s
        return until_s

    @cached_property
    def _is_of_client(self) -> NDArray[np.bool_]:
        if self.only_client is None:
            return np.ones(len(self.status), dtype=bool)
        return np.asarray(self.requests["client"] == self.only_client)

    @cached_property
    def latencies(self) -> dict[str, Distribution]:
        """Distributions of ttft_s, tbt_s, tpot_s, e2e_s and scheduling_delay_s."""
        return distributions(
            self.requests,
            [replica.tokens for replica in self.replicas],
            self.counted,
            end_s=self.end_s,
            have_moves=self.stays.have_moves,
            zero_first_gap=self.metrics.zero_first_gap,
        )

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Summary of the run, as in summary.json.

        Values are None where there is nothing to measure.
        """
        span_s = self.end_s - float(np.nanmin(self.requests["arrival_s"]))
        stages = stage_shares(self.replicas, span_s)
        rates = self.throughput.of(self.counted)
        return {
            "num_requests": len(self.status),
            "num_skipped_rows": self.num_skipped,
            "num_measured": int(np.count_nonzero(self.counted)),
            **self.num_by_status,
            "num_iterations": sum(len(replica.logged.end_s) for replica in self.replicas),
            "num_preemptions": sum(replica.num_preemptions for replica in self.replicas),
            "arrivals_per_s": self.arrivals_per_s,
            "makespan_s": self.throughput.makespan_s,
            **rates,
            **{name: latency.summary() for name, latency in self.latencies.items()},
            "kv_use": kv_use(self.replicas),
            "prefix_cache": prefix_cache_figures(self.replicas, self.requests, self.counted, self.has_prefixes),
            "busy_fraction": stages.pop("busy"),
            "bubbles": stages,
            "cluster": cluster_totals(self.replicas, rates["output_tokens_per_s"]),
            "replicas": self._replica_totals(span_s),
            "iteration_time": self.iteration_time[0],
            "faults": self.faults.summary(
                len(self.replicas), int(self.stays.is_retry.sum()), self.end_s - span_s, self.end_s
            ),
            "overloaded": self.overloaded,
            "warnings": [warning.text for warning in self.warnings],
        }

    @cached_property
    def warnings(self) -> list[Warning]:
        """Reasons to doubt the figures of the run."""
        return run_warnings(self)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per request, columns as in requests.csv."""
        import pandas as pd

        return pd.DataFrame({name: self.column(name) for name in self.request_columns})

    @property
    def request_columns(self) -> Sequence[str]:
        """Columns of requests.csv."""
        return [*REQUEST_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in self.requests)]

    def column(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Return a column of requests.csv, or some of its rows.

        Clients are given by name, not by index.
        """
        values = self.requests[name][rows]
        return np.array([client.name for client in self.clients])[values] if name == "client" else values

    def batches(self) -> Iterator[tuple[int, float, float, Any, int, str, int]]:
        """Yield one row per batch member, columns as in batches.csv.

        The members of a batch keep its order.

        Raises:
            ValueError: The members were not logged.
        """
        request_id = self.requests["request_id"].tolist()
        for index, replica in enumerate(self.replicas):
            if replica.members is None:
                raise ValueError("the members of the batches were not logged: simulate with log_members=True")
            starts, ends = replica.logged.columns["start_s"].tolist(), replica.logged.end_s.tolist()
            for iteration, members in enumerate(replica.members):
                for request, num_tokens, is_prompt in members:
                    phase = "prefill" if is_prompt else "decode"
                    times = starts[iteration], ends[iteration]
                    yield iteration, *times, request_id[request], num_tokens, phase, index

    @cached_property
    def iteration_time(self) -> tuple[dict[str, Any], list[Warning]]:
        """Sources of the iteration times, and warnings about them."""
        started = ~np.isnan(self.requests["first_scheduled_s"]) & (self.requests["replica"] != NO_REPLICA)
        longest = np.zeros(len(self.replicas), dtype=np.int64)
        np.maximum.at(longest, self.requests["replica"][started], self.requests["prompt_tokens"][started])
        return describe_provenance(
            (replica.provenance, extent_of(replica.logged.columns, int(prompt)))
            for replica, prompt in zip(self.replicas, longest, strict=True)
        )

    @cached_property
    def num_by_status(self) -> dict[str, int]:
        """Number of requests by final status, as in the summary."""
        status = self.status[self._is_of_client]
        return {name: int(np.count_nonzero(status == code)) for name, code in STATUS_NAMES.items()}

    @property
    def overloaded(self) -> bool:
        """Whether requests arrived faster than they were served."""
        return self.backlog > 0

    @cached_property
    def backlog(self) -> int:
        """Requests that wait at the last arrival, if overloaded; else 0."""
        arrived = ~np.isin(self.status, (NOT_ARRIVED, IGNORED, LOST)) & self._is_of_client
        columns = ("arrival_s", "first_scheduled_s", "replica")
        return backlog(*(self.requests[name][arrived] for name in columns))

    @cached_property
    def arrivals_per_s(self) -> float | None:
        """Arrival rate from the first to the last arrival, requests/s.

        None: all requests arrived at once, or none arrived.
        """
        arrival_s = self.requests["arrival_s"][self.status != NOT_ARRIVED]
        span_s = float(np.ptp(arrival_s)) if len(arrival_s) else 0.0
        return (len(arrival_s) - 1) / span_s if span_s > 0 else None

    @cached_property
    def throughput(self) -> Throughput:
        """Requests finished and tokens emitted per second."""
        logs = [replica.tokens for replica in self.replicas]
        return Throughput(logs, self.requests["arrival_s"], self.counted, self.status == FINISHED)

    def _replica_totals(self, span_s: float) -> list[dict[str, Any]]:
        """Return the figures of each replica.

        Throughput is per second of the whole run's makespan.
        """
        replica, size = self.requests["replica"], len(self.replicas)
        sent = replica != NO_REPLICA
        count = {
            name: np.bincount(replica[(self.status == code) & sent], minlength=size) for name, code in _ROUTED.items()
        }
        num_routed = np.bincount(replica[sent], minlength=size)
        rates = self.throughput.by_replica(replica)
        return [
            {
                "replica": number,
                "num_requests": int(num_routed[number]),
                **{name: int(counts[number]) for name, counts in count.items()},
                **rates[number],
                **replica_totals(log, span_s),
            }
            for number, log in enumerate(self.replicas)
        ]


_ROUTED = {name: code for name, code in STATUS_NAMES.items() if code != NOT_ARRIVED}
