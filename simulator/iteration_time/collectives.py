"""Time of collectives and messages between the GPUs of a layout."""

from simulator.iteration_time.link_curves import Amount, LinkCurve, MeasuredLinks, load_links
from simulator.model import Layout, Link, Network


class Collectives:
    """Messages of one layout: measured curves where there are some, rings and latency-bandwidth lines elsewhere.

    Attributes:
        sources: Where the times come from, in a few words each.
        warnings: What a user should know before trusting the times.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.sources: list[str] = []
        self.warnings: list[str] = []
        parallel = layout.parallel
        if parallel.num_gpus == 1:
            return
        node = layout.known_node
        self._fastest_link, self._network = node.links[0], node.network
        measured = [load_links(name) for name in node.measured]
        within = parallel.tp <= node.num_gpus
        self._all_reduce = self._curve(measured, "all_reduce", parallel.tp) if within else None
        links = [link for stage in range(parallel.pp - 1) if (link := layout.send_link(stage)) is not None]
        self._fast_send = self._curve(measured, "send", 2) if node.links[0] in links else None
        if within and parallel.tp > 1 and self._all_reduce is None:
            self.warnings.append(
                f"all-reduce of {parallel.tp} GPUs was not measured on {node.name}: a ring at "
                f"{layout.tp_link.bandwidth_gb_per_s:g} GB/s"
            )
        slowest = min((link.bandwidth_gb_per_s for link in links if not self._is_measured(link)), default=None)
        if slowest is not None:
            self.warnings.append(f"some messages between stages were not measured on {node.name}: {slowest:g} GB/s")
        if layout.num_nodes > 1:
            self.sources.append(f"{node.network.name} between machines")
            self.warnings.append(
                f"messages between machines were not measured: {node.network.name}, by its line rate and the share "
                "of it that cluster.node says is attained"
            )
        if node.device != layout.device.name:
            self.warnings.append(
                f"links of {node.name} are known with {node.device} and taken as they are with {layout.device.name}"
            )

    def all_reduce_time(self, num_bytes: Amount) -> Amount:
        """Seconds to sum so many bytes over the GPUs of a stage, so that each has the result."""
        return self._usual_all_reduce_time(num_bytes) * self._layout.network_slowdown

    def _usual_all_reduce_time(self, num_bytes: Amount) -> Amount:
        tp = self._layout.parallel.tp
        if tp == 1:
            return num_bytes * 0.0
        if self._all_reduce is not None:
            return self._all_reduce.time(num_bytes)
        moved = 2 * (tp - 1) / tp * num_bytes
        link = self._layout.tp_link
        latency_us, rate = link.latency_us, link.bandwidth_gb_per_s
        if tp > self._layout.tp_gpus_per_node:
            # A ring passes through every link, the slowest decides.
            network = self._network
            latency_us = max(latency_us, network.collective_latency_us)
            rate = min(rate, network.line_rate(self._layout.tp_gpus_per_node) * network.collective_share)
        return latency_us * 1e-6 + moved / (rate * 1e9)

    def all_gather_time(self, num_bytes: Amount) -> Amount:
        """Seconds until each GPU of a stage has all of `num_bytes`, of which each brings an equal part.

        A ring all-reduce is a reduce-scatter and an all-gather that move as much: it is half of one.
        """
        return self.all_reduce_time(num_bytes) / 2

    def send_time(self, stage: int, num_bytes: Amount) -> Amount:
        """Seconds to bring so many bytes from the GPUs of a stage to those of the next one.

        Each GPU sends to its counterpart: all of it, or a slice. The next stage gathers slices itself.
        """
        return self._usual_send_time(stage, num_bytes) * self._layout.network_slowdown

    def _usual_send_time(self, stage: int, num_bytes: Amount) -> Amount:
        parallel, layout = self._layout.parallel, self._layout
        own = num_bytes / parallel.tp if parallel.sliced_sends else num_bytes
        link = layout.send_link(stage)
        if link is None:
            return _through(self._network, layout.tp_gpus_per_node, own)
        if self._fast_send is not None and self._is_measured(link):
            return self._fast_send.time(own)
        return link.latency_us * 1e-6 + own / (link.bandwidth_gb_per_s * 1e9)

    def _is_measured(self, link: Link) -> bool:
        """Whether messages over a link of the machine were measured; only those of neighbours were."""
        return link == self._fastest_link and self._fast_send is not None

    def _curve(self, measured: list[MeasuredLinks], operator: str, num_gpus: int) -> LinkCurve | None:
        """Return what was measured within a machine."""
        for links in measured:
            curve = links.curve(operator, num_gpus, num_gpus)
            if curve is not None:
                self.sources.append(f"{operator} of {num_gpus} GPUs: {links.about['machine']}")
                return curve
        return None


def _through(network: Network, num_gpus: int, num_bytes: Amount) -> Amount:
    """Seconds of messages of so many GPUs of a machine, which share its adapters."""
    rate = network.line_rate(num_gpus) / num_gpus * network.message_share
    return network.message_latency_us * 1e-6 + num_bytes / (rate * 1e9)
