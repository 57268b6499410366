"""Machines: how their GPUs are joined, and what joins machine to machine. Sources are in configs/cluster/node."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from traces.shared.value_checks import positive, text

MOST_GPUS = 4096


@dataclass(frozen=True)
class Link:
    """What joins neighbouring GPUs of a machine.

    Attributes:
        num_gpus: GPUs that it joins: the first so many, the next so many, and so on.
        bandwidth_gb_per_s: Bandwidth of a message, and bus bandwidth of a ring, 10^9 byte/s in one direction.
        latency_us: Time of a short message or collective, microseconds.
    """

    num_gpus: int
    bandwidth_gb_per_s: float
    latency_us: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_count(self.num_gpus, "num_gpus")
        for name in ("bandwidth_gb_per_s", "latency_us"):
            positive(name, getattr(self, name))


@dataclass(frozen=True)
class Network:
    """What joins machines.

    Attributes:
        name: What it is, in a few words.
        adapter_gb_per_s: Line rate of one network adapter, 10^9 byte/s in one direction.
        num_adapters: Adapters of a machine; its GPUs share them evenly.
        collective_share: Share of the line rate that a ring of all-reduce attains.
        message_share: Share of the line rate that a message attains.
        collective_latency_us: Time of a short collective, microseconds.
        message_latency_us: Time of a short message, microseconds.
    """

    name: str
    adapter_gb_per_s: float
    num_adapters: int
    collective_share: float
    message_share: float
    collective_latency_us: float
    message_latency_us: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        text("name", self.name)
        _require_count(self.num_adapters, "num_adapters")
        shares = ("collective_share", "message_share")
        for name in ("adapter_gb_per_s", *shares, "collective_latency_us", "message_latency_us"):
            positive(name, getattr(self, name))
        for name in shares:
            if getattr(self, name) > 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)!r}")

    def line_rate(self, num_gpus: int) -> float:
        """10^9 byte/s that so many GPUs of one machine have together: at most one adapter each."""
        return self.adapter_gb_per_s * min(num_gpus, self.num_adapters)


@dataclass(frozen=True)
class Node:
    """A machine with GPUs.

    Attributes:
        name: Name of the machine, as in the configuration.
        device: Name of the GPU that it is known with.
        num_gpus: GPUs.
        links: What joins them, from the fastest link of the fewest to the slowest, which joins all.
        network: What joins machines of this kind.
        measured: Names of fitted message times that hold within it (`simulator/links`), or paths of such files.
    """

    name: str
    device: str
    num_gpus: int
    links: Sequence[Link]
    network: Network
    measured: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_count(self.num_gpus, "num_gpus")
        links = self.links
        if not isinstance(links, Sequence) or not links or not all(isinstance(link, Link) for link in links):
            raise ValueError(f"links must be a list of at least one Link, got {links!r}")
        sizes = [link.num_gpus for link in links]
        if sorted(set(sizes)) != sizes or sizes[-1] != self.num_gpus:
            raise ValueError(f"links must join ever more GPUs, at last all {self.num_gpus}; got {sizes}")
        if any(more % fewer for fewer, more in pairwise(sizes)):
            raise ValueError(f"links must join multiples of what the link before joins, got {sizes}")
        rates = [link.bandwidth_gb_per_s for link in links]
        if sorted(rates, reverse=True) != rates:
            raise ValueError(f"links must go from the fastest to the slowest, got {rates} GB/s")
        for name in ("name", "device"):
            text(name, getattr(self, name))
        measured = self.measured
        if isinstance(measured, str) or not isinstance(measured, Sequence) or not all(map(_is_text, measured)):
            raise ValueError(f"measured must be a list of names or paths, got {measured!r}")

    def slowest_link(self, pairs: Iterable[tuple[int, int]]) -> Link:
        """Return the slowest link that some pairs of GPUs have in common; GPUs are numbered from 0."""
        links = self.links
        places = [
            next(place for place, link in enumerate(links) if first // link.num_gpus == other // link.num_gpus)
            for first, other in pairs
        ]
        return links[max(places)]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _require_count(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_GPUS:
        raise ValueError(f"{name} must be an integer from 1 to {MOST_GPUS}, got {value!r}")
