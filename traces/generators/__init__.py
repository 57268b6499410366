"""Request generators and length distributions."""

from typing import TYPE_CHECKING

from traces.shared.lazy_names import lazy_names

if TYPE_CHECKING:
    from traces.generators.conversations import Conversations
    from traces.generators.empirical import Empirical
    from traces.generators.lengths import Geometric, Lengths, LogNormal, SplitNormal, Table, Uniform, Zipf
    from traces.generators.mix import ClientClass, Mix
    from traces.generators.shared_prefix import SharedPrefix
    from traces.generators.synthetic import Fixed, Synthetic

__all__ = [
    "ClientClass",
    "Conversations",
    "Empirical",
    "Fixed",
    "Geometric",
    "Lengths",
    "LogNormal",
    "Mix",
    "SharedPrefix",
    "SplitNormal",
    "Synthetic",
    "Table",
    "Uniform",
    "Zipf",
]
# Module of each name, imported on first use: only generators that read a file need pandas and pyarrow.
_MODULES = {
    "ClientClass": "mix",
    "Conversations": "conversations",
    "Empirical": "empirical",
    "Fixed": "synthetic",
    "Geometric": "lengths",
    "Lengths": "lengths",
    "LogNormal": "lengths",
    "Mix": "mix",
    "SharedPrefix": "shared_prefix",
    "SplitNormal": "lengths",
    "Synthetic": "synthetic",
    "Table": "lengths",
    "Uniform": "lengths",
    "Zipf": "lengths",
}


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # mypy would take any name for one of the package
    __getattr__ = lazy_names(__name__, _MODULES)
