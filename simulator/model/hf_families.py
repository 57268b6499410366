"""Defaults of the model classes of Hugging Face."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Decoder-only transformers of one `model_type`.

    Attributes:
        gated: Whether the MLP has a gate projection.
        tied: Whether input embedding and LM head are tied.
        head_dim: Width of a head; None: hidden size by query heads.
        multi_head: Whether there are as many key-value heads as query heads where the file does not say.
        qk_norm: Whether queries and keys are normalised.
        parallel: Whether attention and MLP read the same input.
        window: Tokens that a layer with a sliding window attends to; None: all.
    """

    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    multi_head: bool = False
    qk_norm: bool = False
    parallel: bool = False
    window: int | None = None


# Source: the configuration classes of transformers 4.57.
FAMILIES = {
    "llama": Family(multi_head=True),
    "Yi": Family(multi_head=True),
    "internlm2": Family(multi_head=True),
    "mistral": Family(window=4096),
    "mixtral": Family(),
    "qwen2": Family(),
    "qwen3": Family(head_dim=128, qk_norm=True),
    "gemma": Family(tied=True, head_dim=256),
    "gemma2": Family(tied=True, head_dim=256, window=4096),
    "phi3": Family(multi_head=True),
    "granite": Family(multi_head=True),
    "glm": Family(head_dim=128),
    "glm4": Family(head_dim=128),
    "smollm3": Family(tied=True),
    "seed_oss": Family(head_dim=128),
    "olmo": Family(multi_head=True),
    "olmo2": Family(multi_head=True, qk_norm=True),
    "stablelm": Family(),
    "cohere": Family(tied=True, multi_head=True, parallel=True),
    "nemotron": Family(gated=False),
    "starcoder2": Family(gated=False, tied=True),
    "gpt_neox": Family(gated=False, multi_head=True),
    "phi": Family(gated=False, multi_head=True, parallel=True),
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), Family(gated=False, tied=True)),
}
