"""Layout of a model on the GPUs of a replica.

It has the layers and weights of each stage, and the links between stages.
"""

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

    GPUs are numbered consecutively and each stage gets the next tp of them. Whole stages fill one machine after the
    other; a stage with more GPUs than a machine spans several machines.

    Attributes:
        model: The model.
        device: The GPU.
        parallel: Degrees of parallelism.
        node: The machine; None: unknown, which is enough for one GPU.
        kv_dtype: Format of the keys and values in the KV cache.
        network_slowdown: Factor on the time of messages between GPUs.
    """

    model: Model
    device: Device
    parallel: Parallelism
    node: Node | None = None
    kv_dtype: str = "fp16"
    network_slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check that the model can be split this way.

        Raises:
            ValueError: It cannot; the message has the reason.
        """
        model, tp, pp = self.model, self.parallel.tp, self.parallel.pp
        if model.num_layers < pp:
            raise ValueError(f"parallel.pp={pp} must be at most the {model.num_layers} layers of {model.name}")
        model.require_divisible(tp)
        split = self.parallel.stage_layers
        if split is not None and sum(split) != model.num_layers:
            raise ValueError(
                f"parallel.stage_layers={list(split)} must add up to the {model.num_layers} layers of {model.name}, "
                f"got {sum(split)}"
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
        layers, remainder = divmod(self.model.num_layers, self.parallel.pp)
        return [layers + (stage < remainder) for stage in range(self.parallel.pp)]

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache bytes of one token in one layer on one GPU."""
        return 2 * self.model.kv_heads_per_gpu(self.parallel.tp) * self.model.head_dim * bytes_per_value(self.kv_dtype)

    def weight_bytes(self, stage: int) -> float:
        """Return the weight bytes of one GPU of a stage.

        The first stage includes the embedding, the last stage the LM head.
        """
        model, tp, pp = self.model, self.parallel.tp, self.parallel.pp
        heads = 2 * (model.num_q_heads / tp + model.kv_heads_per_gpu(tp))
        layer = model.hidden_size * model.head_dim * heads + model.mlp_parameters / tp
        num_embeddings = (stage == 0) + (stage == pp - 1)
        if model.tied_embedding and pp == 1:
            num_embeddings = 1
        # Quantised checkpoints leave the embedding and the LM head at half precision.
        embeddings = num_embeddings * model.embedding_parameters / tp
        return self.stage_layers[stage] * layer * bytes_per_value(model.dtype) + embeddings * HALF_BYTES

    def activation_bytes(self, num_tokens: int) -> float:
        """Return the peak activation bytes of one GPU in a forward pass.

        The peak of a layer is in its MLP: the residual stream, the layer's input and output, and the up (and gate)
        projection with the activation beside it.
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
                f"parallel.tp={self.parallel.tp}, pp={self.parallel.pp} needs cluster.node, the links between the GPUs"
            )
        return self.node

    @property
    def stages_per_node(self) -> int:
        """Whole stages per machine; 0: a stage spans several machines."""
        return self.known_node.num_gpus // self.parallel.tp

    @property
    def num_nodes(self) -> int:
        """Machines that the replica spans."""
        tp, pp, per_node = self.parallel.tp, self.parallel.pp, self.stages_per_node
        return -(-pp // per_node) if per_node else pp * (tp // self.known_node.num_gpus)

    def nodes_for(self, num_replicas: int) -> int:
        """Return the machines that `num_replicas` replicas need; small replicas share a machine."""
        if self.num_nodes > 1:
            return num_replicas * self.num_nodes
        return -(-num_replicas // (self.known_node.num_gpus // self.parallel.num_gpus))

    @property
    def tp_gpus_per_node(self) -> int:
        """GPUs of a stage that are on one machine."""
        return min(self.parallel.tp, self.known_node.num_gpus)

    @property
    def tp_link(self) -> Link:
        """Slowest link within a machine between GPUs of the same stage."""
        size = self.tp_gpus_per_node
        first_gpus = range(0, size * max(1, min(self.stages_per_node, self.parallel.pp)), size)
        return self.known_node.slowest_link((first, first + size - 1) for first in first_gpus)

    def send_link(self, stage: int) -> Link | None:
        """Return the slowest link from a stage to the next.

        None: the next stage is on another machine.
        """
        per_node, tp = self.stages_per_node, self.parallel.tp
        if not per_node or (stage + 1) % per_node == 0:
            return None
        first = stage % per_node * tp
        return self.known_node.slowest_link((gpu, gpu + tp) for gpu in range(first, first + tp))
