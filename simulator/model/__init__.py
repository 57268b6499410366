"""Model, GPU and node specifications, and model layouts on GPUs."""

from simulator.model.architecture import Model
from simulator.model.device import Attained, Device
from simulator.model.engine_memory import EngineMemory
from simulator.model.engine_overhead import EngineOverhead, HostTime, SamplerTime
from simulator.model.front_end import FrontEndTime
from simulator.model.hf_config import read_hf_config
from simulator.model.kv_memory import KVMemory
from simulator.model.layout import Layout
from simulator.model.node import Link, Network, Node
from simulator.model.number_formats import HALF, HALF_BYTES, WEIGHT_DTYPES, bytes_per_value
from simulator.model.parallelism import Parallelism
from simulator.model.placement import Placement

__all__ = [
    "HALF",
    "HALF_BYTES",
    "WEIGHT_DTYPES",
    "Attained",
    "Device",
    "EngineMemory",
    "EngineOverhead",
    "FrontEndTime",
    "HostTime",
    "KVMemory",
    "Layout",
    "Link",
    "Model",
    "Network",
    "Node",
    "Parallelism",
    "Placement",
    "SamplerTime",
    "bytes_per_value",
    "read_hf_config",
]
