"""The measured device: GPU or processor, clocks, driver and libraries."""

import gc
import importlib
import importlib.util
import platform
import subprocess  # nosec B404  # of nvidia-smi alone
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiling.device.host_memory import keep_freed_memory
from profiling.tables import Header
from simulator.model import HALF, WEIGHT_DTYPES, Device

# The driver's name of a GPU -> its name in configs/device.
NAMES = {
    "NVIDIA A100 80GB PCIe": "a100_80gb",
    "NVIDIA A100-SXM4-80GB": "a100_80gb_sxm",
    "NVIDIA A40": "a40",
    "NVIDIA H100 80GB HBM3": "h100_sxm",
    "NVIDIA H200": "h200_sxm",
    "NVIDIA B200": "b200_sxm",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx_pro_6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx_pro_6000",
}
# Devices to run on.
CUDA, CPU = "cuda", "cpu"
_QUERY = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")


class NoGpuError(ValueError):
    """This machine has nothing to measure."""


def require_torch(on: str) -> Any:
    """Import and return torch for a device.

    Args:
        on: "cuda" or "cpu".

    Raises:
        NoGpuError: torch is not installed, or it finds no CUDA GPU.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise NoGpuError("measuring needs torch: pip install 'llm-serving-simulator[profiling]'") from None
    if on == CUDA and not torch.cuda.is_available():
        raise NoGpuError(
            f"measuring needs a CUDA GPU, and torch {torch.__version__} finds none; --on cpu measures the processor"
        )
    if on == CPU:
        keep_freed_memory()
    return torch


def free_memory(torch: Any, on: str) -> None:
    """Collect garbage and release cached GPU memory."""
    gc.collect()
    if on == CUDA:
        torch.cuda.empty_cache()


def name_of_device(torch: Any, on: str) -> str:
    """Return the name of this device in configs/device.

    A device that is not known there keeps the driver's name.
    """
    if on == CPU:
        return CPU
    name: str = torch.cuda.get_device_name(0)
    return NAMES.get(name, name)


def flashinfer_or_none() -> Any:
    """Return FlashInfer, or None if it is not installed.

    Raises:
        NoGpuError: FlashInfer is installed but does not load.
    """
    if importlib.util.find_spec("flashinfer") is None:
        return None
    try:
        return importlib.import_module("flashinfer")
    except Exception as error:
        raise NoGpuError(f"flashinfer is installed but does not load: {' '.join(str(error).split())}") from error


def header(torch: Any, library: str, device: Device, on: str, command: str) -> Header:
    """Return the header of tables or recordings made on this machine.

    Args:
        torch: The module.
        library: Names and versions of the kernel libraries.
        device: The measured device.
        on: "cuda" or "cpu".
        command: Command that makes them, such as "measure".
    """
    gpu = on == CUDA
    name = torch.cuda.get_device_name(0) if gpu else processor(torch.get_num_threads())
    return Header(
        device=device.name,
        source=f"measured with python -m profiling {command} on {name}",
        licence="Apache-2.0",
        date=datetime.now(UTC).date().isoformat(),
        engine_generation=f"{library} (CUDA {torch.version.cuda})" if gpu else library,
        num_sms=torch.cuda.get_device_properties(0).multi_processor_count if gpu else torch.get_num_threads(),
        peak_tflops=device.peak_tflops,
        bandwidth_gb_per_s=device.bandwidth_gb_per_s,
        format_tflops={name: device.tflops(name) for name in WEIGHT_DTYPES if _is_fast(device, name)},
        l2_mb=torch.cuda.get_device_properties(0).L2_cache_size / 1e6 if gpu else None,
        environment={"python": platform.python_version(), **(_gpu(torch) if gpu else {"processor": name})},
    )


def _is_fast(device: Device, dtype: str) -> bool:
    """Whether a device multiplies a format faster than half precision."""
    return dtype not in HALF and device.computes_in(dtype)


def _gpu(torch: Any) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "num_gpus": torch.cuda.device_count(),
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None,
        **_driver(),
    }


def processor(num_threads: int) -> str:
    """Return the processor's name and the number of cores used.

    Only its type or architecture if the operating system does not report the name.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{num_threads} of {len(models)} cores of {models[0]}" if models else platform.machine()


def _driver() -> dict[str, str]:
    """Return driver version, clocks and limits of the first GPU.

    Empty if nvidia-smi is missing or fails.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout  # nosec B603
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_QUERY, (value.strip() for value in printed.strip().split(",")), strict=False))
