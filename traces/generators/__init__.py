"""Request generators and length distributions."""

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
