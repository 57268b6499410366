"""Machines: links between their GPUs, and the network between machines.

Sources are in configs/cluster/node.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from traces.shared.value_checks import each, instance, integer, number, positive, sequence, text

MOST_GPUS = 4096


@dataclass(frozen=True)
class Link:
    """A link between neighbouring GPUs of a machine.

    Attributes:
        num_gpus: GPUs per link: the first `num_gpus` GPUs share one, the next `num_gpus` another, and so on.
        bandwidth_gb_per_s: Bandwidth of a message and bus bandwidth of a ring, 10^9 byte/s in one direction.
        latency_us: Time of a short message or collective, microseconds.
    """

    num_gpus: int
    bandwidth_gb_per_s: float
    latency_us: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("num_gpus", self.num_gpus, 1, MOST_GPUS)
        each(positive, self, ("bandwidth_gb_per_s", "latency_us"))


@dataclass(frozen=True)
class Network:
    """The network between machines.

    Attributes:
        name: Short description.
        adapter_gb_per_s: Line rate of one network adapter, 10^9 byte/s in one direction.
        num_adapters: Adapters per machine; its GPUs share them evenly.
        collective_share: Share of the line rate that a ring all-reduce attains.
        message_share: Share of the line rate that a point-to-point message attains.
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
        integer("num_adapters", self.num_adapters, 1, MOST_GPUS)
        each(positive, self, ("adapter_gb_per_s", "collective_latency_us", "message_latency_us"))
        each(number, self, ("collective_share", "message_share"), 1e-6, 1)

    def line_rate(self, num_gpus: int) -> float:
        """Return the combined line rate of some GPUs of a machine.

        In 10^9 byte/s, with at most one adapter per GPU.
        """
        return self.adapter_gb_per_s * min(num_gpus, self.num_adapters)


@dataclass(frozen=True)
class Node:
    """A machine with GPUs.

    Attributes:
        name: Name of the machine, as in the configuration.
        device: Name of the GPU that its link speeds are known for.
        num_gpus: GPUs of the machine.
        links: Links between its GPUs, fastest first; each joins more GPUs than the one before, the last joins all.
        network: Network between machines of this kind.
        measured: Fitted link curves within the machine: names in `simulator/iteration_time/links`, or paths of files.
    """

    name: str
    device: str
    num_gpus: int
    links: Sequence[Link]
    network: Network
    measured: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("num_gpus", self.num_gpus, 1, MOST_GPUS)
        links = self.links
        sequence("links", links, "a list of at least one Link", instance, Link, "a Link", least=1)
        sizes = [link.num_gpus for link in links]
        if sorted(set(sizes)) != sizes or sizes[-1] != self.num_gpus:
            raise ValueError(f"links must join increasing numbers of GPUs, the last all {self.num_gpus}; got {sizes}")
        if any(more % fewer for fewer, more in pairwise(sizes)):
            raise ValueError(f"links must each join a multiple of the GPUs of the link before, got {sizes}")
        rates = [link.bandwidth_gb_per_s for link in links]
        if sorted(rates, reverse=True) != rates:
            raise ValueError(f"links must go from the fastest to the slowest, got {rates} GB/s")
        each(text, self, ("name", "device"))
        sequence("measured", self.measured, "a list of names or paths", text)

    def slowest_link(self, pairs: Iterable[tuple[int, int]]) -> Link:
        """Return the slowest link between any of the given GPU pairs.

        GPUs are numbered from 0.
        """
        links = self.links
        levels = [
            next(level for level, link in enumerate(links) if first // link.num_gpus == second // link.num_gpus)
            for first, second in pairs
        ]
        return links[max(levels)]
