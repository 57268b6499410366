"""Scheduling policies: one file each, chosen by `_target_`."""

from simulator.replica import Limits
from simulator.schedulers.base import LostPrefill, Scheduler, admit_whole_prompts, next_admissible, schedule_decodes
from simulator.schedulers.chunked_prefills import ChunkedPrefills
from simulator.schedulers.dynamic_chunks import DynamicChunks
from simulator.schedulers.faster_transformer import FasterTransformer
from simulator.schedulers.orca import Orca
from simulator.schedulers.sarathi import Sarathi
from simulator.schedulers.vllm import VLLM
from simulator.schedulers.vllm_v1 import VLLMV1

__all__ = [
    "VLLM",
    "VLLMV1",
    "ChunkedPrefills",
    "DynamicChunks",
    "FasterTransformer",
    "Limits",
    "LostPrefill",
    "Orca",
    "Sarathi",
    "Scheduler",
    "admit_whole_prompts",
    "next_admissible",
    "schedule_decodes",
]
