"""A model spread over the GPUs of machines: which layers, weights and neighbours each of them has."""

from dataclasses import dataclass
from functools import cached_property

from simulator.model.architecture import Model
from simulator.model.device import Device
from simulator.model.node import Link, Node
from simulator.model.number_formats import HALF_BYTES, bytes_per_value
from simulator.model.parallelism import Parallelism


@dataclass(frozen=True)
class Layout:
    """A model on the GPUs of one replica.

    GPUs are numbered through, each stage has the next tp of them, and machines are filled one after the other
    with whole stages; a stage of more GPUs than a machine has takes several machines.

    Attributes:
        model: The model.
        device: The GPU.
        parallel: Degrees of parallelism.
        node: The machine; None: unknown, which is enough for one GPU.
        kv_dtype: Format of the keys and values in the KV cache.
        network_slowdown: How many times as long as usual messages between GPUs take.
    """

    model: Model
    device: Device
    parallel: Parallelism
    node: Node | None = None
    kv_dtype: str = "fp16"
    network_slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check that the model can be spread like this.

        Raises:
            ValueError: It cannot; with the reason.
        """
        model, tp, pp = self.model, self.parallel.tp, self.parallel.pp
        if model.num_layers < pp:
            raise ValueError(f"parallel.pp={pp}: {model.name} has {model.num_layers} layers, fewer than stages")
        model.require_divisible(tp)
        split = self.parallel.stage_layers
        if split is not None and sum(split) != model.num_layers:
            raise ValueError(
                f"parallel.stage_layers={list(split)} has {sum(split)} layers in all, {model.name} {model.num_layers}"
            )
        if self.node is not None and tp > self.node.num_gpus and tp % self.node.num_gpus:
            raise ValueError(
                f"parallel.tp={tp} does not fill whole machines: {self.node.name} has {self.node.num_gpus} GPUs"
            )

    # -- layers and bytes -------------------------------------------------------------------------

    @cached_property
    def stage_layers(self) -> list[int]:
        """Layers of each stage."""
        if self.parallel.stage_layers is not None:
            return list(self.parallel.stage_layers)
        layers, rest = divmod(self.model.num_layers, self.parallel.pp)
        return [layers + (stage < rest) for stage in range(self.parallel.pp)]

    @property
    def kv_bytes_per_token(self) -> float:
        """KV-cache bytes of one token, one layer and one GPU."""
        return 2 * self.model.kv_heads_per_gpu(self.parallel.tp) * self.model.head_dim * bytes_per_value(self.kv_dtype)

    def weight_bytes(self, stage: int) -> float:
        """Weight bytes of one GPU of a stage: its layers, and the embedding or LM head on the ends."""
        model, tp, pp = self.model, self.parallel.tp, self.parallel.pp
        heads = 2 * (model.num_q_heads / tp + model.kv_heads_per_gpu(tp))
        layer = model.hidden_size * model.head_dim * heads + model.mlp_parameters / tp
        ends = (stage == 0) + (stage == pp - 1)
        if model.tied_embedding and pp == 1:
            ends = 1
        # Quantised checkpoints leave the embedding and the LM head at half precision.
        outside = ends * model.embedding_parameters / tp
        return self.stage_layers[stage] * layer * bytes_per_value(model.dtype) + outside * HALF_BYTES

    def activation_bytes(self, num_tokens: int) -> float:
        """Activation bytes of one GPU in a forward pass.

        The widest point of a layer is its MLP: the residual stream, the layer's input and output, and the
        up (and gate) projection with the activation beside it.
        """
        model = self.model
        inner = (3 if model.gated_mlp else 2) * model.experts_per_token * model.ffn_size / self.parallel.tp
        return num_tokens * (3 * model.hidden_size + inner) * HALF_BYTES

    # -- machines ---------------------------------------------------------------------------------

    @property
    def known_node(self) -> Node:
        """The machine.

        Raises:
            ValueError: It is unknown.
        """
        if self.node is None:
            raise ValueError(
                f"parallel.tp={self.parallel.tp}, pp={self.parallel.pp} needs cluster.node: what joins the GPUs"
            )
        return self.node

    @property
    def stages_per_node(self) -> int:
        """Whole stages that one machine holds; 0: a stage takes several machines."""
        return self.known_node.num_gpus // self.parallel.tp

    @property
    def num_nodes(self) -> int:
        """Machines that the replica is spread over."""
        tp, pp, per_node = self.parallel.tp, self.parallel.pp, self.stages_per_node
        return -(-pp // per_node) if per_node else pp * (tp // self.known_node.num_gpus)

    def nodes_for(self, num_replicas: int) -> int:
        """Machines that so many replicas take: small ones share a machine."""
        if self.num_nodes > 1:
            return num_replicas * self.num_nodes
        return -(-num_replicas // (self.known_node.num_gpus // self.parallel.num_gpus))

    @property
    def tp_gpus_per_node(self) -> int:
        """GPUs of a stage that are on one machine."""
        return min(self.parallel.tp, self.known_node.num_gpus)

    @property
    def tp_link(self) -> Link:
        """Slowest link within a machine that joins the GPUs of a stage."""
        size = self.tp_gpus_per_node
        first_gpus = range(0, size * max(1, min(self.stages_per_node, self.parallel.pp)), size)
        return self.known_node.slowest_link((first, first + size - 1) for first in first_gpus)

    def send_link(self, stage: int) -> Link | None:
        """Slowest link between GPUs of a stage and their counterparts in the next; None: on different machines."""
        per_node, tp = self.stages_per_node, self.parallel.tp
        if not per_node or (stage + 1) % per_node == 0:
            return None
        first = stage % per_node * tp
        return self.known_node.slowest_link((gpu, gpu + tp) for gpu in range(first, first + tp))
