"""Predictions by fits to tables of measurements."""

from dataclasses import replace
from pathlib import Path

from profiling.fit.host_overhead import host_time
from profiling.fit.in_engine_factors import with_in_engine
from profiling.fit.kernels import fit_device
from simulator.cluster import Deployment
from simulator.iteration_time import ComposedTimes, DeviceProfile, ProfileKernels, StageTimes
from simulator.model import EngineOverhead, Layout


class Fitted:
    """Kernel times and engine host time, fitted to a device's tables."""

    def __init__(self, folder: Path) -> None:
        self.profile: DeviceProfile = with_in_engine(fit_device(folder), folder)
        self.host = host_time(folder)

    def predicting(self, deployment: Deployment) -> Deployment:
        """Return a deployment that is predicted with these fits."""
        hosts = {deployment.device.host: self.host}
        engine = EngineOverhead(hosts, decode_graph_sizes=deployment.engine.decode_graph_sizes)
        return replace(deployment, engine=engine, iteration_time=self)

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """See `IterationTime`."""
        return ComposedTimes(ProfileKernels(self.profile, layout.device), layout, engine)
