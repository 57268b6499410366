"""Published times of linear layers, which predictions are compared with."""

# Names of the matrix products of a layer.
LINEAR_OPERATORS = ("qkv_proj", "o_proj", "gate_up_proj", "up_proj", "down_proj")
# Figure 6 of arXiv:2403.02310: ms of the linear layers of an iteration of LLaMA2-70B on A100 at TP2 and TP4, by tokens.
# 264 and 392 represent points "just above" 256 and 384.
PUBLISHED_LINEAR_MS = {
    128: (60, 30),
    256: (80, 47),
    264: (107, 56),
    384: (112, 57),
    392: (140, 76),
    512: (145, 80),
    1024: (280, 146),
    2048: (505, 266),
    4096: (997, 505),
}
