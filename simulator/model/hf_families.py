"""Defaults of the model classes of Hugging Face."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Decoder-only transformers of one `model_type`.

    Attributes:
        gated: Whether the MLP has a gate projection.
        tied: Whether input embedding and LM head are tied.
        head_dim: Width of a head; None: hidden size by query heads.
        kv_heads: Key-value heads; 0: as many as query heads; None: the file must say.
        qk_norm: Whether queries and keys are normalised.
        parallel: Whether attention and MLP read the same input.
        window: Tokens that a layer with a sliding window attends to; None: all.
    """

    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    kv_heads: int | None = None
    qk_norm: bool = False
    parallel: bool = False
    window: int | None = None


# Source: the configuration classes of transformers 4.57.
FAMILIES = {
    "llama": Family(kv_heads=0),
    "Yi": Family(kv_heads=0),
    "internlm2": Family(kv_heads=0),
    "mistral": Family(window=4096),
    "mixtral": Family(),
    "qwen2": Family(),
    "qwen3": Family(head_dim=128, qk_norm=True),
    "gemma": Family(tied=True, head_dim=256),
    "gemma2": Family(tied=True, head_dim=256, window=4096),
    "phi3": Family(kv_heads=0),
    "granite": Family(kv_heads=0),
    "glm": Family(head_dim=128),
    "glm4": Family(head_dim=128),
    "smollm3": Family(tied=True),
    "seed_oss": Family(head_dim=128),
    "olmo": Family(kv_heads=0),
    "olmo2": Family(kv_heads=0, qk_norm=True),
    "stablelm": Family(),
    "cohere": Family(tied=True, kv_heads=0, parallel=True),
    "nemotron": Family(gated=False),
    "starcoder2": Family(gated=False, tied=True),
    "gpt_neox": Family(gated=False, kv_heads=0),
    "phi": Family(gated=False, kv_heads=0, parallel=True),
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), Family(gated=False, tied=True)),
}
