"""Published numbers of the Sarathi-Serve paper (Agrawal et al., OSDI 2024).

Title: "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve".

Read from the text, tables, labels and bar heights of arXiv:2403.02310; settings from the published artifact. Nothing
in the simulator is fitted to these numbers.
"""

from dataclasses import dataclass

from simulator.iteration_time import PUBLISHED_LINEAR_MS

CHAT, ARXIV = "openchat_sharegpt4", "arxiv_summarization"
SCHEDULERS = ("orca", "vllm", "sarathi")
SLOS = ("strict", "relaxed")


@dataclass(frozen=True)
class Setting:
    """Settings of the paper for a model.

    Attributes:
        deployment: Model, device and layout: a file of configs/deployment.
        orca: Orca with its request limit: a file of configs/experiment.
        relaxed_sarathi: Sarathi with its token budget under the relaxed SLO: a file of configs/experiment.
        start_qps: First rate of a capacity search, by trace.
    """

    deployment: str
    orca: str
    relaxed_sarathi: str
    start_qps: dict[str, float]


SETTINGS = {
    "Mistral-7B": Setting("mistral_7b_a100", "orca_16", "sarathi_2048", {CHAT: 4, ARXIV: 2}),
    "Yi-34B": Setting("yi_34b_a100_tp2", "orca_16", "sarathi_2048", {CHAT: 2, ARXIV: 1}),
    "LLaMA2-70B": Setting("llama2_70b_a40_tp4_pp2", "orca_8", "sarathi_1536", {CHAT: 1, ARXIV: 0.5}),
    "Falcon-180B": Setting("falcon_180b_a100_tp4_pp2", "orca_8", "sarathi_2048", {CHAT: 1.6, ARXIV: 0.8}),
}
FIGURE_OF = {"Mistral-7B": "10", "Yi-34B": "10", "LLaMA2-70B": "11", "Falcon-180B": "11"}

# Figures 10 and 11: capacity, requests/s, of Orca, vLLM and Sarathi.
CAPACITIES = {
    ("Mistral-7B", CHAT, "strict"): (0.73, 0.77, 2.03),
    ("Mistral-7B", CHAT, "relaxed"): (1.06, 1.56, 2.28),
    ("Mistral-7B", ARXIV, "strict"): (0.34, 0.44, 0.62),
    ("Mistral-7B", ARXIV, "relaxed"): (0.39, 0.47, 0.77),
    ("Yi-34B", CHAT, "strict"): (0.27, 0.29, 1.08),
    ("Yi-34B", CHAT, "relaxed"): (0.50, 0.71, 1.22),
    ("Yi-34B", ARXIV, "strict"): (0.16, 0.20, 0.27),
    ("Yi-34B", ARXIV, "relaxed"): (0.18, 0.24, 0.35),
    ("LLaMA2-70B", CHAT, "strict"): (0.13, 0.19, 0.72),
    ("LLaMA2-70B", CHAT, "relaxed"): (0.13, 0.54, 0.82),
    ("LLaMA2-70B", ARXIV, "strict"): (0.05, 0.06, 0.23),
    ("LLaMA2-70B", ARXIV, "relaxed"): (0.09, 0.12, 0.27),
    ("Falcon-180B", CHAT, "strict"): (0.13, 0.17, 0.61),
    ("Falcon-180B", CHAT, "relaxed"): (0.13, 0.49, 0.73),
    ("Falcon-180B", ARXIV, "strict"): (0.05, 0.07, 0.21),
    ("Falcon-180B", ARXIV, "relaxed"): (0.08, 0.12, 0.22),
}
# Labels above the bars: capacity of Sarathi relative to Orca; relative to vLLM from the bar heights.
SPEEDUPS = {
    ("Mistral-7B", CHAT, "strict"): (2.78, 2.64),
    ("Mistral-7B", CHAT, "relaxed"): (2.15, 1.46),
    ("Mistral-7B", ARXIV, "strict"): (1.82, 1.41),
    ("Mistral-7B", ARXIV, "relaxed"): (1.97, 1.64),
    ("Yi-34B", CHAT, "strict"): (4.00, 3.72),
    ("Yi-34B", CHAT, "relaxed"): (2.44, 1.72),
    ("Yi-34B", ARXIV, "strict"): (1.69, 1.35),
    ("Yi-34B", ARXIV, "relaxed"): (1.94, 1.46),
    ("LLaMA2-70B", CHAT, "strict"): (5.54, 3.79),
    ("LLaMA2-70B", CHAT, "relaxed"): (6.31, 1.52),
    ("LLaMA2-70B", ARXIV, "strict"): (4.60, 3.83),
    ("LLaMA2-70B", ARXIV, "relaxed"): (3.00, 2.25),
    ("Falcon-180B", CHAT, "strict"): (4.69, 3.59),
    ("Falcon-180B", CHAT, "relaxed"): (5.62, 1.49),
    ("Falcon-180B", ARXIV, "strict"): (4.20, 3.00),
    ("Falcon-180B", ARXIV, "relaxed"): (2.75, 1.83),
}

# Figure 12: capacity on chat, requests/s, by the bound on P99 TBT in seconds.
FIGURE_12_POLICIES = ("vllm_32", "vllm_64", "vllm_128", "sarathi_512", "sarathi_2048")
FIGURE_12 = {
    "Mistral-7B": {
        0.1: (0.77, 0.77, 0.77, 2.03, 0.50),
        0.2: (1.03, 1.06, 1.06, 2.00, 1.64),
        0.3: (1.25, 1.24, 1.25, 2.00, 2.30),
        0.4: (1.35, 1.39, 1.39, 2.00, 2.30),
        0.5: (1.35, 1.58, 1.56, 2.00, 2.30),
    },
    "Yi-34B": {
        0.2: (0.33, 0.32, 0.33, 1.14, 0.20),
        0.4: (0.46, 0.47, 0.45, 1.14, 0.48),
        0.6: (0.60, 0.62, 0.60, 1.14, 1.28),
        0.8: (0.68, 0.70, 0.69, 1.14, 1.28),
        1.0: (0.79, 0.78, 0.79, 1.14, 1.28),
    },
}

# Figure 13: Falcon-180B on chat. P50 TBT in seconds by batch size at 0.75 requests/s, and capacities.
FIGURE_13_BATCHES = (8, 16, 32, 64, 128)
FIGURE_13_TBT = {
    "TP8": (0.191, 0.205, 0.209, 0.248, 0.360),
    "TP4-PP2": (0.085, 0.091, 0.103, 0.133, 0.151),
}
FIGURE_13_QPS = 0.75
# Capacities of TP8; figure 11 has those of TP4-PP2.
FIGURE_13_TP8 = {"strict": 0.14, "relaxed": 0.16}
# Section 3.3: a prompt of 4,096 tokens and 32 decodes of 4,096 tokens in one stage, and the bubble between them, s.
SECTION_3_3 = {"prefill_4096_s": 1.15, "decode_32_s": 0.2, "bubble_s": 0.95}

# Figure 14: time of a prompt in chunks relative to its time as a whole, Yi-34B TP2, by (prompt, chunk). Powers of two
# are read from the bars; the other prompts are measurements of the artifact.
FIGURE_14 = {
    (2048, 512): 1.29,
    (4096, 512): 1.33,
    (8192, 512): 1.27,
    (2048, 1024): 1.20,
    (4096, 1024): 1.22,
    (8192, 1024): 1.17,
    (2048, 2048): 0.99,
    (4096, 2048): 1.01,
    (8192, 2048): 0.96,
    (2047, 512): 1.15,
    (4095, 512): 1.19,
    (8191, 512): 1.12,
    (16383, 512): 0.995,
    (2047, 1024): 1.17,
    (4095, 1024): 1.20,
    (8191, 1024): 1.11,
    (16383, 1024): 0.96,
    (2047, 2048): 1.00,
    (4095, 2048): 1.02,
    (8191, 2048): 0.94,
    (16383, 2048): 0.81,
}

# Table 4: Yi-34B TP2, 128 requests, chat at 1 and arxiv at 0.5 requests/s: P50 TTFT and P99 TBT, s.
TABLE_4_QPS = {CHAT: 1.0, ARXIV: 0.5}
TABLE_4_REQUESTS = 128
TABLE_4 = {
    ("hybrid_batching_only", CHAT): (0.53, 0.68),
    ("hybrid_batching_only", ARXIV): (3.78, 1.38),
    ("chunked_prefills_only", CHAT): (1.04, 0.17),
    ("chunked_prefills_only", ARXIV): (5.38, 0.20),
    ("sarathi", CHAT): (0.76, 0.14),
    ("sarathi", ARXIV): (3.90, 0.17),
}
# The paper states 1024, the artifact runs 512.
TABLE_4_CHUNKS = (512, 1024)

# Figure 9: ms of decodes alone, with a chunk up to the budget, and with a whole prompt as long as the context; by
# (batch, context).
FIGURE_9_DEPLOYMENTS = {
    "Mistral-7B": ("deployment=mistral_7b_a100",),
    "LLaMA2-70B": ("model=llama2_70b", "device=a100_80gb", "parallel.tp=4"),
}
FIGURE_9_BUDGETS = {"Mistral-7B": 256, "LLaMA2-70B": 512}
FIGURE_9: dict[str, dict[tuple[int, int], tuple[float, float, float]]] = {
    "Mistral-7B": {
        (1, 1024): (15.9, 29.5, 90),
        (32, 1024): (26.4, 37.3, 100),
        (64, 1024): (40.9, 50.4, 115),
        (1, 2048): (16.1, 29.7, 164),
        (32, 2048): (33.3, 46.4, 183),
        (64, 2048): (57.0, 72.4, 211),
        (1, 4096): (15.9, 30.8, 323),
        (32, 4096): (46.1, 61.9, 360),
        (64, 4096): (77.0, 97.5, 393),
    },
    "LLaMA2-70B": {
        (1, 1024): (48.8, 177, 346),
        (32, 1024): (61.7, 191, 370),
        (64, 1024): (82.4, 204, 387),
        (1, 2048): (49.3, 180, 655),
        (32, 2048): (70.6, 198, 685),
        (64, 2048): (100, 226, 712),
        (1, 4096): (48.7, 183, 1378),
        (32, 4096): (87.0, 220, 1444),
        (64, 4096): (142.6, 266, 1511),
    },
}

# Figure 5: FLOP/byte of the linear layers of LLaMA2-70B on four A100 by tokens, and the tokens at which compute and
# memory time are equal.
FIGURE_5_INTENSITY = {64: 64.0, 600: 512.0}
FIGURE_5_BALANCE_TOKENS = 600.0

FIGURE_6 = PUBLISHED_LINEAR_MS
