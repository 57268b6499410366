"""Known request formats: names, meanings and units of their columns."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

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
_TIMES = ("arrival_s", "think_s")
_UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_UNIT = re.compile(r"[^A-Za-z0-9](s|ms|us|ns)\)?$")
_MOST_LISTED = 20


@dataclass(frozen=True)
class Format:
    """Columns of a request format.

    Names match whatever their case, spaces and underscores. The names in ROLES and `session_id` are known in every
    format.

    Attributes:
        name: Name of the format.
        columns: Column names by role, the preferred one first. A role is one of ROLES, `parent`, the request_id of the
            previous turn, or `prompt_token_ids` and `output_token_ids`, lists of tokens.
        units_per_second: Units of its times per second, such as 1000 for milliseconds; None: as the end of the column's
            name says (`_ms`, ...), else seconds. Arrivals may be dates and times of day instead, or times since 1970.
        starts_at_zero: Whether the first request arrives at 0 whatever its time.
        block_tokens: Tokens per prefix block; None: in the column block_tokens, or unknown.
        distinctive: Column that distinguishes the format from another with the same length columns; None: no other
            has them.
        given: Names that the user gave to columns by role; None: the role has no column. Their times are in seconds,
            unless the name says otherwise.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units_per_second: float | None = None
    starts_at_zero: bool = False
    block_tokens: int | None = None
    distinctive: str | None = None
    given: Mapping[str, str | None] = field(default_factory=dict)

    def columns_by_role(self, columns: Iterable[str]) -> dict[str, str]:
        """Return the columns of a file by role.

        Args:
            columns: All columns of the file.
        """
        names = list(columns)
        by_plain_name = {_plain(name): name for name in reversed(names)}
        by_role = {}
        for role in dict.fromkeys((*ROLES, *self.columns)):
            known = (by_plain_name.get(_plain(name)) for name in self._names(role))
            column = self.given[role] if role in self.given else next(filter(None, known), None)
            if column is not None:
                by_role[role] = column
        return by_role

    def matches(self, columns: Collection[str], *, without_outputs: bool = False) -> bool:
        """Return whether a file with these columns has this format.

        Args:
            columns: All columns of the file.
            without_outputs: Whether the output length may be missing.
        """
        by_role = self.columns_by_role(columns)
        has_lengths = "prompt_tokens" in by_role and (without_outputs or "output_tokens" in by_role)
        return has_lengths and (self.distinctive is None or self.distinctive in columns)

    def unit_of(self, role: str, column: str) -> float:
        """Return the units per second of a column of times."""
        if self.units_per_second is not None and role not in self.given and column in self.columns[role]:
            return self.units_per_second
        unit = _UNIT.search(column)
        return _UNITS_PER_SECOND[unit[1]] if unit else 1.0

    def _names(self, role: str) -> Iterable[str]:
        own = {"session": ("session", "session_id")}.get(role, (role,) if role in ROLES else ())
        names = (*self.columns.get(role, ()), *own)
        return (
            (f"{name}{end}" for end in ("", "_s", "_ms", "_us", "_ns") for name in names) if role in _TIMES else names
        )


# Names that logs, load generators and APIs use; our own come first.
GENERAL = Format(
    "general",
    {
        "prompt_tokens": (
            *("prompt_tokens", "input_tokens", "usage.prompt_tokens", "usage.input_tokens", "num_prompt_tokens"),
            *("num_input_tokens", "prompt_token_count", "input_token_count", "prompt_len", "input_len"),
            *("prompt_length", "isl", "input_sequence_length"),
        ),
        "output_tokens": (
            *("output_tokens", "completion_tokens", "usage.completion_tokens", "usage.output_tokens"),
            *("num_completion_tokens", "num_output_tokens", "output_token_count", "completion_token_count"),
            *("generated_tokens", "num_generated_tokens", "response_tokens", "decode_tokens", "output_len"),
            *("output_length", "completion_length", "response_length", "osl", "output_sequence_length"),
        ),
        "arrival_s": (
            *("arrival_s", "arrival", "arrival_time", "arrival_timestamp", "arrived_at", "timestamp", "@timestamp"),
            *("request_time", "request_timestamp", "request_start", "request_start_time", "start_time"),
            *("start_timestamp", "sent_at", "created_at", "created", "datetime", "ts"),
        ),
        "session": ("session", "session_id", "conversation_id"),
        "client": ("client", "client_id"),
        "block_ids": ("block_ids", "hash_ids", "block_hashes"),
        "block_tokens": ("block_tokens", "block_size"),
    },
)
_MOONCAKE = {
    "prompt_tokens": ("input_length",),
    "output_tokens": ("output_length",),
    "arrival_s": ("timestamp",),
    "think_s": ("delay",),
    "session": ("session_id",),
    "block_ids": ("hash_ids",),
}
FORMATS = (
    GENERAL,
    # Azure/AzurePublicDataset, 2023 to 2025.
    Format(
        "azure",
        {"prompt_tokens": ("ContextTokens",), "output_tokens": ("GeneratedTokens",), "arrival_s": ("TIMESTAMP",)},
    ),
    # HPMLL/BurstGPT.
    Format(
        "burstgpt",
        {
            "prompt_tokens": ("Request tokens",),
            "output_tokens": ("Response tokens",),
            "arrival_s": ("Timestamp",),
            "session": ("Session ID",),
            "client": ("Model",),
        },
        starts_at_zero=True,
    ),
    # alibaba-edu/qwen-bailian-usagetraces-anon; before Mooncake, whose length columns it has too.
    Format(
        "bailian",
        {
            "prompt_tokens": ("input_length",),
            "output_tokens": ("output_length",),
            "arrival_s": ("timestamp",),
            "request_id": ("chat_id",),
            "parent": ("parent_chat_id",),
            "client": ("type",),
            "block_ids": ("hash_ids",),
        },
        block_tokens=16,
        distinctive="parent_chat_id",
    ),
    # alibaba/ServeGen, generated workloads; with input_tokens and output_tokens they are general.
    Format(
        "servegen",
        {
            "prompt_tokens": ("input_length",),
            "output_tokens": ("output_length",),
            "arrival_s": ("timestamp",),
            "client": ("client_id",),
        },
        distinctive="client_id",
    ),
    # kvcache-ai/Mooncake; session_id and delay come from NVIDIA AIPerf and Dynamo.
    Format("mooncake", _MOONCAKE, units_per_second=1e3, block_tokens=512),
    # Mutinifni/splitwise-sim.
    Format(
        "splitwise",
        {
            "prompt_tokens": ("prompt_size",),
            "output_tokens": ("token_size",),
            "arrival_s": ("arrival_timestamp",),
            "client": ("application_id",),
        },
    ),
    # microsoft/vidur, data/processed_traces.
    Format(
        "vidur",
        {
            "prompt_tokens": ("num_prefill_tokens",),
            "output_tokens": ("num_decode_tokens",),
            "arrival_s": ("arrived_at",),
        },
    ),
    # NVIDIA AIPerf, profile_export.jsonl.
    Format(
        "aiperf",
        {
            "prompt_tokens": ("metrics.input_sequence_length.value",),
            "output_tokens": ("metrics.output_sequence_length.value",),
            "arrival_s": ("metadata.request_start_ns",),
            "session": ("metadata.x_correlation_id",),
        },
    ),
    # casys-kaist/LLMServingSim; equal tokens show what prompts share.
    Format(
        "llmservingsim",
        {
            "prompt_tokens": ("input_toks",),
            "output_tokens": ("output_toks",),
            "arrival_s": ("arrival_time_ns",),
            "prompt_token_ids": ("input_tok_ids",),
            "output_token_ids": ("output_tok_ids",),
        },
        block_tokens=16,
    ),
)


def has_lengths(columns: Collection[str], given: Mapping[str, str | None]) -> bool:
    """Return whether a file with these columns has prompt lengths."""
    return any(replace(form, given=given).matches(columns, without_outputs=True) for form in FORMATS)


def recognise(columns: Collection[str], given: Mapping[str, str | None], *, without_outputs: bool = False) -> Format:
    """Return the format of a file.

    Args:
        columns: All columns of the file.
        given: Names that the user gave to columns by role; None: the role has no column.
        without_outputs: Whether the output length may be missing.

    Raises:
        ValueError: A column is missing, or the format is unknown.
    """
    for role, name in given.items():
        if name is not None and name not in columns:
            raise ValueError(f"has no column {name}, named by columns.{role}; it has: {_listed(columns)}")
    formats = [replace(form, given=given) for form in FORMATS]
    known = next((form for form in formats if form.matches(columns)), None)
    without = known or next((form for form in formats if form.matches(columns, without_outputs=True)), None)
    if without is None:
        raise ValueError(
            f"has no column of prompt lengths that is known; it has: {_listed(columns)}; "
            "trace.columns={prompt_tokens: NAME, output_tokens: NAME} names them"
        )
    if known is None and not without_outputs:
        prompts = without.columns_by_role(columns)["prompt_tokens"]
        raise ValueError(
            f"has prompt lengths ({prompts}) but no column of output lengths that is known; it has: "
            f"{_listed(columns)}; trace.output_tokens=N gives each request N output tokens, "
            "trace.columns={output_tokens: NAME} names a column"
        )
    return without


def _listed(columns: Collection[str]) -> str:
    shown = list(columns)[:_MOST_LISTED]
    return ", ".join(shown) + (", ..." if len(columns) > len(shown) else "")


def _plain(name: str) -> str:
    """Return a column name without case, spaces, underscores and the like."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())
