"""KV blocks that vLLM logs against those of the simulator.

    python -m benchmarks.kv_memory

Logs of vLLM 0.19 on H100 are of jgchn/llm-d-planner (results_raw.csv): a share of 0.95, 8,192 tokens and 1,024 requests
per iteration, no room for CUDA graphs. The others state what they were started with. Their memory constants
(`configs/engine`) are fitted to activations and buffers in the same logs, not to blocks.
"""

from dataclasses import dataclass, replace

from simulator.config import load_config
from simulator.model import Model

LOG_2026 = ("engine=vllm_v1", "engine.memory.graph_mib_per_layer=0", "kv_cache.memory_utilization=0.95")
EARLIER = ("engine=vllm_v1_2025", "scheduler.max_num_seqs=256")


@dataclass(frozen=True)
class Log:
    """One start of vLLM.

    Attributes:
        version: Version of vLLM.
        model: Name of a configuration, or the model.
        gpu: Device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        blocks: Logged KV blocks of 16 tokens.
        overrides: Configuration of the engine.
    """

    version: str
    model: str | Model
    gpu: str
    tp: int
    pp: int
    blocks: int
    overrides: tuple[str, ...] = LOG_2026


QWEN2_7B = Model("qwen2.5_7b", 28, 3584, 28, 4, 128, 18944, True, 152064, max_model_len=8192)
QWEN2_72B = Model("qwen2.5_72b", 80, 8192, 64, 8, 128, 29568, True, 152064, max_model_len=8192)
QWEN3_8B = Model("qwen3_8b", 36, 4096, 32, 8, 128, 12288, True, 151936, qk_norm=True, max_model_len=8192)
PHI_4 = Model("phi_4", 40, 5120, 40, 10, 128, 17920, True, 100352, max_model_len=8192)
CODELLAMA_7B = Model("codellama_7b", 32, 4096, 32, 32, 128, 11008, True, 32016, max_model_len=8192)
FP8 = (*LOG_2026, "model.dtype=fp8")
LOGS = (
    Log("0.19.0", CODELLAMA_7B, "h100_sxm", 1, 1, 7891),
    Log("0.19.0", "llama3_8b", "h100_sxm", 1, 1, 29751),
    Log("0.19.0", "llama3_8b", "h100_sxm", 2, 1, 65293),
    Log("0.19.0", "llama3_8b", "h100_sxm", 4, 1, 138112),
    Log("0.19.0", "llama3_8b", "h100_sxm", 1, 2, 67207),
    Log("0.19.0", "llama3_8b", "h100_sxm", 1, 1, 33078, FP8),
    Log("0.19.0", "llama3_70b", "h100_sxm", 2, 1, 15269, FP8),
    Log("0.19.0", "llama3_70b", "h100_sxm", 4, 1, 44312, FP8),
    Log("0.19.0", QWEN2_7B, "h100_sxm", 1, 1, 68500),
    Log("0.19.0", QWEN2_7B, "h100_sxm", 2, 1, 149412),
    Log("0.19.0", QWEN2_72B, "h100_sxm", 2, 1, 1245),
    Log("0.19.0", QWEN2_72B, "h100_sxm", 4, 1, 30081),
    Log("0.19.0", QWEN3_8B, "h100_sxm", 1, 1, 26168),
    Log("0.19.0", PHI_4, "h100_sxm", 1, 1, 15098),
    Log("0.15", "llama2_7b", "h100_sxm", 1, 1, 7463, EARLIER),
    Log("0.15", "llama3_70b", "h100_sxm", 4, 1, 30425, EARLIER),
    Log("0.15", "yi_34b", "h100_sxm", 2, 1, 20793, EARLIER),
    Log("0.19.0", "llama3_8b", "rtx4090", 1, 1, 2588, (*LOG_2026[:2], "kv_cache.memory_utilization=0.9")),
)


def simulated_blocks(log: Log) -> int:
    """Return the KV blocks of the simulator."""
    given = log.model if isinstance(log.model, str) else "llama3_8b"
    overrides = (f"model={given}", f"device={log.gpu}", f"parallel.tp={log.tp}", f"parallel.pp={log.pp}")
    deployment = load_config(
        *overrides, "model.max_model_len=4096", "scheduler=vllm_v1", "trace.num_requests=1", *log.overrides
    )["deployment"]
    if isinstance(log.model, Model):
        deployment = replace(deployment, model=log.model)
    return int(deployment.replica_specs()[0].num_blocks)


def main() -> None:
    """Print logged and simulated blocks."""
    print("| vLLM | model | GPUs | logged | simulated | error |")
    print("|---|---|---|---|---|---|")
    for log in LOGS:
        name = log.model if isinstance(log.model, str) else log.model.name
        name += " fp8" if "model.dtype=fp8" in log.overrides else ""
        gpus = f"{log.gpu} tp{log.tp}" + (f" pp{log.pp}" if log.pp > 1 else "")
        blocks = simulated_blocks(log)
        error = f"{100 * (blocks / log.blocks - 1):+.1f}%"
        print(f"| {log.version} | {name} | {gpus} | {log.blocks:,} | {blocks:,} | {error} |")


if __name__ == "__main__":
    main()
