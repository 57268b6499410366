"""Times of collectives and sends between the GPUs of a layout."""

from typing import Any

import numpy as np

from simulator.iteration_time.link_curves import Amount, LinkCurve, MeasuredLinks, load_links
from simulator.model import EngineOverhead, Layout, Link
from traces.shared.warnings import Warning


class Collectives:
    """Collectives and sends of one layout, from measured link curves.

    All-reduces take the engine's own path over the sizes for which it was measured (in vLLM one-shot and two-shot
    kernels, symmetric memory or NCCL, by size, number of GPUs and architecture), and NCCL beyond. Where no curve was
    measured, an all-reduce is a ring, and a send is latency plus bytes over bandwidth.

    Attributes:
        sources: Sources of the times, a few words each.
        warnings: What was not measured.
    """

    def __init__(self, layout: Layout, engine: EngineOverhead) -> None:
        self._layout = layout
        self._custom_curve: LinkCurve | None = None
        self._all_gather_curve: LinkCurve | None = None
        self.sources: list[str] = []
        self.warnings: list[Warning] = []
        parallel = layout.parallel
        if parallel.num_gpus == 1:
            return
        node = layout.known_node
        self._fastest_link, self._network = node.links[0], node.network
        loaded = [load_links(name) for name in node.measured]
        own = [links for links in loaded if engine.kernels and links.about.get("kernels") == engine.kernels]
        measured = [*own, *(links for links in loaded if links not in own)]
        within_node = parallel.tp <= node.num_gpus
        self._all_reduce_curve = self._measured_curve(measured, "all_reduce", parallel.tp) if within_node else None
        if within_node and parallel.tp > 1 and engine.custom_all_reduce:
            self._custom_curve = self._measured_curve(own, "custom_all_reduce", parallel.tp)
        self._all_gather_curve = self._measured_curve(own, "all_gather", parallel.tp) if within_node else None
        links = [link for stage in range(parallel.pp - 1) if (link := layout.send_link(stage)) is not None]
        self._send_curve = self._measured_curve(measured, "send", 2) if node.links[0] in links else None
        if within_node and parallel.tp > 1 and self._all_reduce_curve is None:
            self._warn(
                f"all-reduce of {parallel.tp} GPUs was not measured on {node.name}: a ring at "
                f"{layout.tp_link.bandwidth_gb_per_s:g} GB/s"
            )
        slowest = min((link.bandwidth_gb_per_s for link in links if not self._is_measured(link)), default=None)
        if slowest is not None:
            self._warn(f"some messages between stages were not measured on {node.name}: {slowest:g} GB/s")
        if layout.num_nodes > 1:
            self.sources.append(f"{node.network.name} between machines")
            self._warn(
                f"messages between machines were not measured: {node.network.name}, by its line rate and the share "
                "of it that cluster.node says is attained"
            )
        if node.device != layout.device.name:
            self._warn(
                f"links of {node.name} are known for {node.device} and assumed unchanged for {layout.device.name}"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(Warning("unmeasured", text))

    def all_reduce_time(self, num_bytes: Amount) -> Amount:
        """Return the seconds to all-reduce `num_bytes` over the GPUs of a stage."""
        return self._nominal_all_reduce_time(num_bytes) * self._layout.network_slowdown

    def _nominal_all_reduce_time(self, num_bytes: Amount) -> Amount:
        tp = self._layout.parallel.tp
        if tp == 1:
            return num_bytes * 0.0
        if self._all_reduce_curve is not None:
            nccl = self._all_reduce_curve.time(num_bytes)
            if self._custom_curve is None:
                return nccl
            custom = self._custom_curve
            chosen: Any = np.where(num_bytes <= custom.num_bytes[-1], custom.time(num_bytes), nccl)
            total: Amount = chosen
            return total
        moved = 2 * (tp - 1) / tp * num_bytes
        link = self._layout.tp_link
        latency_us, rate = link.latency_us, link.bandwidth_gb_per_s
        if tp > self._layout.tp_gpus_per_node:
            # A ring passes through every link, so the slowest one sets its rate.
            network = self._network
            latency_us = max(latency_us, network.collective_latency_us)
            rate = min(rate, network.line_rate(self._layout.tp_gpus_per_node) * network.collective_share)
        return latency_us * 1e-6 + moved / (rate * 1e9)

    def all_gather_time(self, num_bytes: Amount) -> Amount:
        """Return the seconds to all-gather `num_bytes` within a stage.

        `num_bytes` is the total over the GPUs of the stage. Where it was not measured: a ring all-reduce is a
        reduce-scatter plus an all-gather that moves the same bytes, so an all-gather takes half of its time.
        """
        if self._all_gather_curve is not None:
            return self._all_gather_curve.time(num_bytes) * self._layout.network_slowdown
        return self.all_reduce_time(num_bytes) / 2

    def send_time(self, stage: int, num_bytes: Amount) -> Amount:
        """Return the seconds to send `num_bytes` to the next stage.

        Each GPU sends to its counterpart in the next stage: all bytes, or its slice with `sliced_sends`. The
        all-gather of the slices in the next stage is not included.
        """
        return self._nominal_send_time(stage, num_bytes) * self._layout.network_slowdown

    def _nominal_send_time(self, stage: int, num_bytes: Amount) -> Amount:
        parallel, layout = self._layout.parallel, self._layout
        num_sent = num_bytes / parallel.tp if parallel.sliced_sends else num_bytes
        link = layout.send_link(stage)
        if link is None:  # the GPUs of a stage share the network adapters of the machine
            network, num_gpus = self._network, layout.tp_gpus_per_node
            rate = network.line_rate(num_gpus) / num_gpus * network.message_share
            return network.message_latency_us * 1e-6 + num_sent / (rate * 1e9)
        if self._send_curve is not None and self._is_measured(link):
            return self._send_curve.time(num_sent)
        return link.latency_us * 1e-6 + num_sent / (link.bandwidth_gb_per_s * 1e9)

    def _is_measured(self, link: Link) -> bool:
        """Whether a send curve covers the link.

        Only sends over the fastest link were measured.
        """
        return link == self._fastest_link and self._send_curve is not None

    def _measured_curve(self, measured: list[MeasuredLinks], operator: str, num_gpus: int) -> LinkCurve | None:
        """Return the curve measured within a machine, and note its source.

        None if it was not measured.
        """
        for links in measured:
            curve = links.curve(operator, num_gpus, num_gpus)
            if curve is not None:
                self.sources.append(f"{operator} of {num_gpus} GPUs: {links.about['machine']}")
                return curve
        return None
