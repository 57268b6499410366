"""Message times that were measured: a curve over the size for each operation and group of GPUs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from traces.shared.json_file import read_json

SHIPPED = Path(__file__).parent / "links"
SUFFIX = ".json"
FORMAT = 1

Amount = TypeVar("Amount", float, NDArray[np.float64])


@dataclass(frozen=True)
class LinkCurve:
    """Time by size: straight between knots on a doubly logarithmic scale.

    Below the first knot a message takes as long as there; beyond the last one it goes on at the bandwidth
    between the last two.

    Attributes:
        operator: "all_reduce" or "send".
        num_gpus: GPUs that take part.
        gpus_per_node: Of them, those on one machine.
        num_bytes: float[n], increasing; bytes on each GPU.
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
        good = sizes.ndim == 1 and sizes.shape == times.shape and len(sizes) > 1
        if not good or sizes[0] <= 0 or times[0] <= 0 or not np.isfinite([sizes[-1], times[-1]]).all():
            raise ValueError("a curve needs at least two sizes and as many times, all finite and above 0")
        if (np.diff(sizes) <= 0).any() or (np.diff(times) < 0).any():
            raise ValueError("the sizes of a curve must increase and its times must not decrease")

    def time(self, num_bytes: Amount) -> Amount:
        """Seconds for so many bytes on each GPU."""
        sizes, times = np.asarray(self.num_bytes), np.asarray(self.seconds)
        inside = np.clip(num_bytes, sizes[0], sizes[-1])
        seconds = np.exp(np.interp(np.log(inside), np.log(sizes), np.log(times)))
        slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
        total: Amount = seconds + np.maximum(num_bytes - sizes[-1], 0.0) * slope
        return total


@dataclass(frozen=True)
class MeasuredLinks:
    """All curves of one machine.

    Attributes:
        about: Machine, device, source, licence and date of the measurements.
        curves: One for each operation and group.
    """

    about: Mapping[str, Any]
    curves: Sequence[LinkCurve]

    def curve(self, operator: str, num_gpus: int, gpus_per_node: int) -> LinkCurve | None:
        """Return the curve of an operation in a group; None if it was not measured."""
        wanted = (operator, num_gpus, gpus_per_node)
        return next((one for one in self.curves if (one.operator, one.num_gpus, one.gpus_per_node) == wanted), None)

    def to_text(self) -> str:
        """Return the content of a file; `load_links` reads it."""
        curves = [asdict(curve) for curve in self.curves]
        return json.dumps({"format": FORMAT, "about": dict(self.about), "curves": curves}, indent=1) + "\n"


def load_links(name: str) -> MeasuredLinks:
    """Read fitted message times.

    Args:
        name: One of those that are shipped, or the path of a file that `python -m profiling links` wrote.

    Raises:
        ValueError: There is none, or it is not such a file; one line that names it.
    """
    path = Path(name) if name.endswith(SUFFIX) else SHIPPED / (name + SUFFIX)
    try:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"format must be {FORMAT}")
        if not isinstance(content["about"], dict) or not isinstance(content["about"]["machine"], str):
            raise ValueError("about must name the machine")
        return MeasuredLinks(content["about"], [LinkCurve(**curve) for curve in content["curves"]])
    except FileNotFoundError:
        shipped = ", ".join(sorted(one.stem for one in SHIPPED.glob("*" + SUFFIX)))
        raise ValueError(f"no message times {path}; shipped are {shipped}") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise ValueError(f"{path} is not a file of message times: it has no {error.args[0]}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a file of message times: {error}") from error
