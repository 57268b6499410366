"""Published trace formats: names, meanings and units of their columns."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Format:
    """Columns of a trace format.

    Attributes:
        name: Name of the format.
        columns: Column names by role. A role is one of ROLES, `parent`, the request_id of the previous turn, or
            `prompt_token_ids` and `output_token_ids`, lists of tokens. One of ROLES without an entry has a column of its
            own name.
        units_per_second: Units of arrival and think times per second, such as 1000 for milliseconds. Arrivals may be
            dates and times of day instead, or times since 1970.
        block_tokens: Tokens per prefix block; None: in the column block_tokens, or unknown.
        distinctive: Column that distinguishes the format from another with the same length columns; None: no other
            has them.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    units_per_second: float = 1.0
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
            other_unit = role in ("arrival_s", "think_s") and self.units_per_second != 1
            names = [self.column(role), *([] if other_unit else [role]), *(["session_id"] if role == "session" else [])]
            present = [name for name in names if name in columns]
            if present:
                by_role[role] = present[0]
        return by_role

    def matches(self, columns: Iterable[str], *, without_outputs: bool = False) -> bool:
        """Return whether a file with these columns has this format.

        Args:
            columns: All columns of the file.
            without_outputs: Whether the output length may be missing.
        """
        needed = {self.column("prompt_tokens")} | ({self.distinctive} if self.distinctive else set())
        return needed | (set() if without_outputs else {self.column("output_tokens")}) <= set(columns)

    def renamed(self, columns: Mapping[str, str]) -> "Format":
        """Return the format with other column names for some roles.

        Times in a renamed column are in seconds.
        """
        renames_times = not columns.keys().isdisjoint(("arrival_s", "think_s"))
        return replace(
            self,
            columns={**self.columns, **columns},
            units_per_second=1.0 if renames_times else self.units_per_second,
        )


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
    # Logs with the names of the usage that APIs return.
    Format("usage", {"prompt_tokens": "input_tokens", "output_tokens": "output_tokens", "arrival_s": "timestamp"}),
    # Azure/AzurePublicDataset, 2023 to 2025.
    Format(
        "azure",
        {"prompt_tokens": "ContextTokens", "output_tokens": "GeneratedTokens", "arrival_s": "TIMESTAMP"},
    ),
    # HPMLL/BurstGPT.
    Format(
        "burstgpt",
        {
            "prompt_tokens": "Request tokens",
            "output_tokens": "Response tokens",
            "arrival_s": "Timestamp",
            "session": "Session ID",
            "client": "Model",
        },
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
    # NVIDIA AIPerf, profile_export.jsonl.
    Format(
        "aiperf",
        {
            "prompt_tokens": "metrics.input_sequence_length.value",
            "output_tokens": "metrics.output_sequence_length.value",
            "arrival_s": "metadata.request_start_ns",
        },
        units_per_second=1e9,
    ),
    # casys-kaist/LLMServingSim; equal tokens show what prompts share.
    Format(
        "llmservingsim",
        {
            "prompt_tokens": "input_toks",
            "output_tokens": "output_toks",
            "arrival_s": "arrival_time_ns",
            "prompt_token_ids": "input_tok_ids",
            "output_token_ids": "output_tok_ids",
        },
        units_per_second=1e9,
        block_tokens=16,
    ),
)


def recognise(columns: Collection[str], names: Mapping[str, str], *, without_outputs: bool = False) -> Format:
    """Return the format of a file.

    Args:
        columns: All columns of the file.
        names: Names that the user gave to columns by role.
        without_outputs: Whether the output length may be missing.

    Raises:
        ValueError: A column is missing, or the format is unknown.
    """
    missing = [(role, name) for role, name in names.items() if name not in columns]
    listed = f"it has: {', '.join(columns)}"
    if missing:
        role, name = missing[0]
        raise ValueError(f"has no column {name}, named by columns.{role}; {listed}")
    formats = [form.renamed(names) for form in FORMATS]
    known = next((form for form in formats if form.matches(columns)), None)
    if known is not None:
        return known
    partial = next((form for form in formats if form.matches(columns, without_outputs=True)), None)
    if partial is not None and without_outputs:
        return partial
    if partial is not None:
        raise ValueError(
            f"has {partial.column('prompt_tokens')} but no {partial.column('output_tokens')}; trace.output_tokens=N gives "
            "every request N output tokens"
        )
    raise ValueError(
        f"needs one of these pairs of columns: {list_length_columns()}; {listed}; "
        "trace.columns={prompt_tokens: NAME, output_tokens: NAME} names others"
    )


def list_length_columns() -> str:
    """Return the pairs of length columns of all formats, as text."""
    pairs = [f"{form.column('prompt_tokens')} and {form.column('output_tokens')}" for form in FORMATS]
    return ", ".join(dict.fromkeys(pairs))
