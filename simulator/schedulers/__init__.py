"""Scheduling policies: one file each, chosen by `_target_`."""

from simulator.schedulers.base import (
    Admissions,
    Overlap,
    Overlapping,
    Scheduler,
    SizedBatches,
    decodes_that_fit,
    every_decode,
    free_blocks_after,
    reserving_admissions,
    whole_prompts,
)
from simulator.schedulers.chunked_prefills import ChunkedPrefills
from simulator.schedulers.faster_transformer import FasterTransformer
from simulator.schedulers.orca import Orca
from simulator.schedulers.sarathi import DynamicChunks, Sarathi
from simulator.schedulers.vllm import VLLM
from simulator.schedulers.vllm_v1 import VLLMV1

__all__ = [
    "VLLM",
    "VLLMV1",
    "Admissions",
    "ChunkedPrefills",
    "DynamicChunks",
    "FasterTransformer",
    "Orca",
    "Overlap",
    "Overlapping",
    "Sarathi",
    "Scheduler",
    "SizedBatches",
    "decodes_that_fit",
    "every_decode",
    "free_blocks_after",
    "reserving_admissions",
    "whole_prompts",
]
