"""What was measured on: the GPU, its clocks, driver and libraries."""

import importlib
import platform
import subprocess  # nosec B404  # of nvidia-smi alone
from datetime import UTC, datetime
from typing import Any

from profiling.tables import Header
from simulator.hardware import Device

# Names that NVIDIA's driver gives to devices of configs/device.
NAMES = {
    "NVIDIA A100 80GB PCIe": "a100_80gb",
    "NVIDIA A100-SXM4-80GB": "a100_80gb_sxm",
    "NVIDIA A40": "a40",
    "NVIDIA H100 80GB HBM3": "h100_sxm",
    "NVIDIA H200": "h200_sxm",
}
_QUERY = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")


class NoGpuError(ValueError):
    """There is nothing to measure on."""


def require_torch_and_gpu() -> Any:
    """Return torch.

    Raises:
        NoGpuError: torch is not installed, or it finds no CUDA GPU.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise NoGpuError("measuring needs torch: pip install 'llm-serving-simulator[profiling]'") from None
    if not torch.cuda.is_available():
        raise NoGpuError(f"measuring needs a CUDA GPU, and torch {torch.__version__} finds none")
    return torch


def flashinfer_or_none() -> Any:
    """FlashInfer, if it is installed and loads."""
    try:
        return importlib.import_module("flashinfer")
    except ImportError:
        return None


def header(torch: Any, flashinfer: Any, device: Device) -> Header:
    """Return the header of tables that are measured here."""
    properties = torch.cuda.get_device_properties(0)
    attention = "torch SDPA" if flashinfer is None else f"flashinfer {flashinfer.__version__}"
    return Header(
        device=device.name,
        source=f"measured with python -m profiling measure on {properties.name}",
        licence="Apache-2.0",
        date=datetime.now(UTC).date().isoformat(),
        engine_generation=f"torch {torch.__version__} (CUDA {torch.version.cuda}), attention: {attention}",
        num_sms=properties.multi_processor_count,
        peak_tflops=device.peak_tflops,
        bandwidth_gb_per_s=device.bandwidth_gb_per_s,
        environment={
            "gpu": properties.name,
            "num_gpus": torch.cuda.device_count(),
            "memory_bytes": properties.total_memory,
            "l2_bytes": properties.L2_cache_size,
            "python": platform.python_version(),
            "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None,
            **_driver(),
        },
    )


def _driver() -> dict[str, str]:
    """What the driver says of the first GPU, under load or not; empty where nvidia-smi is missing."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout  # nosec B603
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_QUERY, (one.strip() for one in printed.strip().split(",")), strict=False))
