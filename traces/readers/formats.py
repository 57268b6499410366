"""Published formats of rows: which column means what, in which unit."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Format:
    """Names of a format's columns.

    Attributes:
        name: Name of the format.
        columns: Column by role, of ROLES or `parent`, the request_id of the turn before. A role that is not here has
            our own name for it.
        per_second: Units of the arrival and think times in a second.
        moments: Whether arrivals are dates and times of day.
        rebased: Whether the first row arrives at 0, whatever it says.
        block_tokens: Tokens of a prefix block; None: in the column block_tokens, or unknown.
        telling: Column that tells it from another format with the same lengths; None: there is none like it.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    per_second: float = 1.0
    moments: bool = False
    rebased: bool = False
    block_tokens: int | None = None
    telling: str | None = None

    def column(self, role: str) -> str:
        """Name of the column of a role."""
        return self.columns.get(role, role)

    def found_in(self, columns: Collection[str]) -> dict[str, str]:
        """Return, by role, the columns that are there; our own names and `session_id` are known in every format."""
        found = {}
        for role in dict.fromkeys((*ROLES, *self.columns)):
            # A time under our own name is in seconds, whatever those of the format are in.
            foreign = role in ("arrival_s", "think_s") and (self.moments or self.per_second != 1)
            names = [self.column(role), *([] if foreign else [role]), *(["session_id"] if role == "session" else [])]
            there = [name for name in names if name in columns]
            if there:
                found[role] = there[0]
        return found

    def is_in(self, columns: Iterable[str]) -> bool:
        """Whether these are columns of this format."""
        lengths = {self.column("prompt_tokens"), self.column("output_tokens")}
        return lengths | ({self.telling} if self.telling else set()) <= set(columns)


# Roles, which are also the names of our own columns.
ROLES = (
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "think_s",
    "request_id",
    "session",
    "client",
    "priority",
    "block_ids",
    "block_tokens",
)
FORMATS = (
    Format("plain"),
    # Azure/AzurePublicDataset, 2023 to 2025; times of day, with a zone or without.
    Format(
        "azure",
        {"prompt_tokens": "ContextTokens", "output_tokens": "GeneratedTokens", "arrival_s": "TIMESTAMP"},
        moments=True,
        rebased=True,
    ),
    # HPMLL/BurstGPT; the zero of its seconds is the start of the campaign, months before the third file.
    Format(
        "burstgpt",
        {
            "prompt_tokens": "Request tokens",
            "output_tokens": "Response tokens",
            "arrival_s": "Timestamp",
            "session": "Session ID",
            "client": "Model",
        },
        rebased=True,
    ),
    # alibaba-edu/qwen-bailian-usagetraces-anon; before Mooncake's, of whose columns it has more.
    Format(
        "bailian",
        {
            "prompt_tokens": "input_length",
            "output_tokens": "output_length",
            "arrival_s": "timestamp",
            "request_id": "chat_id",
            "parent": "parent_chat_id",
            "client": "type",
            "block_ids": "hash_ids",
        },
        block_tokens=16,
        telling="parent_chat_id",
    ),
    # kvcache-ai/Mooncake; session_id and delay are NVIDIA AIPerf's and Dynamo's.
    Format(
        "mooncake",
        {
            "prompt_tokens": "input_length",
            "output_tokens": "output_length",
            "arrival_s": "timestamp",
            "think_s": "delay",
            "session": "session_id",
            "block_ids": "hash_ids",
        },
        per_second=1000.0,
        block_tokens=512,
    ),
    # Mutinifni/splitwise-sim.
    Format(
        "splitwise",
        {
            "prompt_tokens": "prompt_size",
            "output_tokens": "token_size",
            "arrival_s": "arrival_timestamp",
            "client": "application_id",
        },
    ),
    # microsoft/vidur, data/processed_traces.
    Format(
        "vidur",
        {"prompt_tokens": "num_prefill_tokens", "output_tokens": "num_decode_tokens", "arrival_s": "arrived_at"},
    ),
)


def recognise(columns: Iterable[str]) -> Format | None:
    """Return the format that has such columns; None: none."""
    names = set(columns)
    return next((one for one in FORMATS if one.is_in(names)), None)


def expected() -> str:
    """Columns that a file may have, in words."""
    pairs = [f"{one.column('prompt_tokens')} and {one.column('output_tokens')}" for one in FORMATS]
    return ", ".join(dict.fromkeys(pairs))
