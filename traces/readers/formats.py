"""Published trace formats: names, meanings and units of their columns."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Format:
    """Columns of a trace format.

    Attributes:
        name: Name of the format.
        columns: Column names by role. A role is one of ROLES or `parent`, the request_id of the previous turn. A role
            without an entry has a column of its own name.
        units_per_second: Units of arrival and think times per second, such as 1000 for milliseconds.
        has_timestamps: Whether arrivals are timestamps (date and time of day).
        starts_at_zero: Whether arrival times are shifted so that the first row arrives at 0.
        block_tokens: Tokens per prefix block; None: in the column block_tokens, or unknown.
        distinctive: Column that distinguishes the format from another with the same length columns; None: no other
            has them.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    units_per_second: float = 1.0
    has_timestamps: bool = False
    starts_at_zero: bool = False
    block_tokens: int | None = None
    distinctive: str | None = None

    def column(self, role: str) -> str:
        """Return the column name of a role."""
        return self.columns.get(role, role)

    def columns_by_role(self, columns: Collection[str]) -> dict[str, str]:
        """Return the columns of a file by role.

        The names in ROLES and `session_id` are known in every format.

        Args:
            columns: All columns of the file.
        """
        by_role = {}
        for role in dict.fromkeys((*ROLES, *self.columns)):
            # Columns named arrival_s and think_s are in seconds; a format with another unit has other names for them.
            other_unit = role in ("arrival_s", "think_s") and (self.has_timestamps or self.units_per_second != 1)
            names = [self.column(role), *([] if other_unit else [role]), *(["session_id"] if role == "session" else [])]
            present = [name for name in names if name in columns]
            if present:
                by_role[role] = present[0]
        return by_role

    def matches(self, columns: Iterable[str]) -> bool:
        """Return whether a file with these columns has this format."""
        lengths = {self.column("prompt_tokens"), self.column("output_tokens")}
        return lengths | ({self.distinctive} if self.distinctive else set()) <= set(columns)


# Roles, which are also the names of the simulator's own columns.
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
    # Azure/AzurePublicDataset, 2023 to 2025; timestamps, with or without a time zone.
    Format(
        "azure",
        {"prompt_tokens": "ContextTokens", "output_tokens": "GeneratedTokens", "arrival_s": "TIMESTAMP"},
        has_timestamps=True,
        starts_at_zero=True,
    ),
    # HPMLL/BurstGPT; its seconds count from the start of the whole recording, months before the third file.
    Format(
        "burstgpt",
        {
            "prompt_tokens": "Request tokens",
            "output_tokens": "Response tokens",
            "arrival_s": "Timestamp",
            "session": "Session ID",
            "client": "Model",
        },
        starts_at_zero=True,
    ),
    # alibaba-edu/qwen-bailian-usagetraces-anon; before Mooncake, whose length columns it has too.
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
        distinctive="parent_chat_id",
    ),
    # kvcache-ai/Mooncake; session_id and delay come from NVIDIA AIPerf and Dynamo.
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
        units_per_second=1000.0,
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
    """Return the format of a file with these columns; None: unknown."""
    names = set(columns)
    return next((form for form in FORMATS if form.matches(names)), None)


def list_length_columns() -> str:
    """Return the pairs of length columns of all formats, as text."""
    pairs = [f"{form.column('prompt_tokens')} and {form.column('output_tokens')}" for form in FORMATS]
    return ", ".join(dict.fromkeys(pairs))
