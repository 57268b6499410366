"""Link curves: measured times of collectives and sends over their size.

A curve is of one operation in one group of GPUs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from traces.shared.json_file import read_json, reading
from traces.shared.value_checks import instance, text

SHIPPED = Path(__file__).parent / "links"
SUFFIX = ".json"
FORMAT = 1

Amount = TypeVar("Amount", float, NDArray[np.float64])


@dataclass(frozen=True)
class LinkCurve:
    """Time of a collective or send over its size.

    Interpolated linearly in log-log scale. Constant below the first knot; beyond the last one, extrapolated at the
    bandwidth between the last two.

    Attributes:
        operator: "all_reduce" (NCCL), "custom_all_reduce" (the engine's own kernel), another collective, or "send".
        num_gpus: Participating GPUs.
        gpus_per_node: Participating GPUs on each machine.
        num_bytes: float[n], increasing; bytes per GPU.
        seconds: float[n], not decreasing.
    """

    operator: str
    num_gpus: int
    gpus_per_node: int
    num_bytes: Sequence[float]
    seconds: Sequence[float]

    def __post_init__(self) -> None:
        """Check the knots."""
        sizes, times = np.asarray(self.num_bytes, dtype=float), np.asarray(self.seconds, dtype=float)
        has_knots = sizes.ndim == 1 and sizes.shape == times.shape and len(sizes) > 1
        if not has_knots or sizes[0] <= 0 or times[0] <= 0 or not np.isfinite([sizes[-1], times[-1]]).all():
            raise ValueError("a curve needs at least two sizes and as many times, all finite and above 0")
        if (np.diff(sizes) <= 0).any() or (np.diff(times) < 0).any():
            raise ValueError("the sizes of a curve must increase and its times must not decrease")

    def time(self, num_bytes: Amount) -> Amount:
        """Return the seconds for `num_bytes` per GPU."""
        sizes, times = np.asarray(self.num_bytes), np.asarray(self.seconds)
        inside = np.clip(num_bytes, sizes[0], sizes[-1])
        seconds = np.exp(np.interp(np.log(inside), np.log(sizes), np.log(times)))
        slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
        total: Amount = seconds + np.maximum(num_bytes - sizes[-1], 0.0) * slope
        return total


@dataclass(frozen=True)
class MeasuredLinks:
    """Link curves of one machine.

    Attributes:
        about: Machine, device, source, licence and date of the measurements.
        curves: One per operation and group of GPUs.
    """

    about: Mapping[str, Any]
    curves: Sequence[LinkCurve]

    def curve(self, operator: str, num_gpus: int, gpus_per_node: int) -> LinkCurve | None:
        """Return the curve of an operation in a group of GPUs.

        None if it was not measured.
        """
        key = (operator, num_gpus, gpus_per_node)
        return next(
            (curve for curve in self.curves if (curve.operator, curve.num_gpus, curve.gpus_per_node) == key), None
        )

    def to_text(self) -> str:
        """Return the content of a file that `load_links` reads."""
        curves = [asdict(curve) for curve in self.curves]
        return json.dumps({"format": FORMAT, "about": dict(self.about), "curves": curves}, indent=1) + "\n"


def load_links(name: str) -> MeasuredLinks:
    """Load the link curves of a machine.

    Args:
        name: Name of a shipped file, or path of a file that `python -m profiling links` wrote.

    Raises:
        ValueError: There is no such file, or it holds no link curves; the message is one line and names it.
    """
    path = Path(name) if name.endswith(SUFFIX) else SHIPPED / (name + SUFFIX)
    if not path.exists():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*" + SUFFIX)))
        raise ValueError(f"no link curves {path}; shipped are {shipped}")
    with reading(path, "a file of link curves"):
        content = read_json(path)
        instance("it", content, dict, "a JSON object")
        if content["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {content['format']!r}")
        instance("about", content["about"], dict, "a JSON object with the machine")
        text("about.machine", content["about"]["machine"])
        return MeasuredLinks(content["about"], [LinkCurve(**curve) for curve in content["curves"]])
