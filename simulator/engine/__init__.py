"""Event loops: schedule a batch, let its time pass, advance the replica."""

from simulator.engine.base import Engine, ReplicaRun
from simulator.engine.batch_queue import BatchQueueEngine
from simulator.engine.clock import ARRIVAL, FAULT, Clock
from simulator.engine.pipeline import PipelineEngine
from simulator.engine.single_stage import SingleStageEngine
from simulator.engine.stuck import StuckReason, stuck_reason
from simulator.engine.watchdog import stop_endless_calls

__all__ = [
    "ARRIVAL",
    "FAULT",
    "BatchQueueEngine",
    "Clock",
    "Engine",
    "PipelineEngine",
    "ReplicaRun",
    "SingleStageEngine",
    "StuckReason",
    "stop_endless_calls",
    "stuck_reason",
]
