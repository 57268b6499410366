"""All-reduce over torch's symmetric memory: GPUs read each other's messages.

Engines reduce small messages so, with kernels of their own.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

# Engines leave larger messages to NCCL.
MAX_BYTES = 8 << 20
# Messages from this size on are reduced in two shots, by number of GPUs: vLLM's rule, csrc/custom_all_reduce.cuh.
# Two GPUs always take one.
TWO_SHOT_BYTES = {4: 512 << 10, 8: 256 << 10}


def takes_one_shot(num_bytes: int, num_gpus: int) -> bool:
    """Return whether each GPU reduces the whole message, not a part."""
    if num_gpus <= 2:
        return True
    limit = next((size for count, size in TWO_SHOT_BYTES.items() if num_gpus <= count), 0)
    return num_bytes < limit


def symmetric_all_reduce(torch: Any, message: Any, num_gpus: int) -> tuple[Any, Callable[[], object], str]:
    """Prepare an all-reduce; all ranks call it together.

    Args:
        torch: The module, with an initialised process group.
        message: The rank's message, on its GPU.
        num_gpus: Ranks.

    Returns:
        The message in symmetric memory, a function that reduces it, and the name of the kernel.

    Raises:
        RuntimeError: The GPUs cannot reach each other's memory.
        ImportError: This version of torch has no symmetric memory.
        AttributeError: It has none for this operation.
    """
    memory = import_module("torch.distributed._symmetric_memory")
    one_shot, two_shot = torch.ops.symm_mem.one_shot_all_reduce, torch.ops.symm_mem.two_shot_all_reduce_
    group = torch.distributed.group.WORLD
    shared = memory.empty(message.numel(), dtype=message.dtype, device=message.device)
    memory.rendezvous(shared, group)
    shared.copy_(message)
    is_one_shot = takes_one_shot(message.numel() * message.element_size(), num_gpus)
    kernel = one_shot if is_one_shot else two_shot
    return shared, lambda: kernel(shared, "sum", group.group_name), "one-shot" if is_one_shot else "two-shot"
