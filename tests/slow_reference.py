"""A deliberately slow model of four LLM schedulers and their engine loop, to check the fast simulator against.

Each sequence is one object, each queue a list that is walked from end to end, and time jumps from one event to the
next. Nothing is cached, totalled up or shared with the simulator: if both give the same schedule, batch by batch,
the shortcuts of the fast one are correct.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass
class Case:
    """One workload and everything that decides its schedule."""

    scheduler: str  # a key of POLICIES
    requests: list[tuple[float, int, int]]  # (arrival_s, prompt_tokens, output_tokens), sorted by arrival
    max_num_seqs: int
    max_model_len: int
    pp: int  # pipeline stages, and the most batches in flight
    num_blocks: int
    block_size: int = 16
    watermark: float = 0.01  # share of the blocks that admission leaves free; sarathi and vllm only
    token_budget: int = 512  # sarathi only
    max_num_batched_tokens: int | None = None  # vllm only
    dynamic_chunks: tuple[int, int, int, int] | None = None  # sarathi only: (stages, low, high, max_tokens)
    base_s: float = 0.02
    per_token_s: float = 0.0001
    per_context_token_s: float = 0.0


@dataclass
class Row:
    """One batch as it ran; `free_blocks` is counted right after it was formed."""

    schedule_s: float
    start_s: float
    end_s: float
    members: list[tuple[int, int, bool]]  # (request index, num_tokens, is_prefill) in batch order
    context_tokens: int
    free_blocks: int


@dataclass
class Outcome:
    """All batches in the order they were formed, then one entry per request in every other list."""

    rows: list[Row]
    first_scheduled_s: list[float | None]
    first_token_s: list[float | None]
    completed_s: list[float | None]
    num_preemptions: list[int]
    ignored: list[bool]
    token_times: list[list[float]]  # when each output token came out


@dataclass(eq=False)
class Sequence:
    """A request in the engine. A preemption moves its `out` tokens into `prompt`."""

    index: int
    arrival: float
    prompt: int
    max_tokens: int
    out: int = 0  # tokens made since the last (re)start
    done: int = 0  # prompt tokens whose computation has completed
    blocks: int = 0
    state: Literal["waiting", "running", "paused", "finished", "ignored"] = "waiting"
    num_preemptions: int = 0
    first_scheduled: float | None = None
    completed: float | None = None
    token_times: list[float] = field(default_factory=list)

    @property
    def context(self) -> int:
        """Tokens in the KV cache: the newest output token is written by the iteration that reads it."""
        return self.done if self.done < self.prompt else self.prompt + self.out - 1


@dataclass(eq=False)
class Member:
    """Share of a sequence in one batch. It is void if the sequence has been preempted since then."""

    sequence: Sequence
    num_tokens: int
    is_prefill: bool
    num_preemptions: int


@dataclass
class Decision:
    """Result of one schedule() call."""

    members: list[Member] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    ignored: list[Sequence] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(member.num_tokens for member in self.members)

    def add(self, sequence: Sequence, num_tokens: int, is_prefill: bool) -> None:
        self.members.append(Member(sequence, num_tokens, is_prefill, sequence.num_preemptions))


class Server:
    """State of the policies: queues and KV blocks."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.sequences = [Sequence(i, *request) for i, request in enumerate(case.requests)]
        self.waiting = list(self.sequences)  # future arrivals too: admission looks at the clock
        self.running: list[Sequence] = []
        self.free = case.num_blocks
        self.pages_memory = case.scheduler in ("sarathi", "vllm")
        self.watermark = int(case.watermark * case.num_blocks) if self.pages_memory else 0
        budget = case.max_num_batched_tokens
        self.vllm_budget = case.max_model_len if budget is None else min(budget, case.max_model_len)
        self.length_limit = self.vllm_budget if case.scheduler == "vllm" else case.max_model_len

    def logical_blocks(self, sequence: Sequence) -> int:
        """Blocks for the prompt and every output token so far."""
        return math.ceil((sequence.prompt + sequence.out) / self.case.block_size)

    def initial_blocks(self, sequence: Sequence) -> int:
        """Blocks taken at admission; without paging, those of the longest request that the model allows."""
        if self.pages_memory:
            return self.logical_blocks(sequence)
        return math.ceil(self.case.max_model_len / self.case.block_size)

    def set_blocks(self, sequence: Sequence, num_blocks: int) -> None:
        self.free += sequence.blocks - num_blocks
        sequence.blocks = num_blocks
        assert self.free >= 0, "more blocks handed out than there are"

    def preempt(self, victim: Sequence, decision: Decision) -> None:
        """Free the victim's blocks and queue it at the head. Its lengths keep their values until the call ends."""
        self.set_blocks(victim, 0)
        victim.num_preemptions += 1
        self.waiting.insert(0, victim)
        decision.preempted.append(victim)


def admit(server: Server, now: float, decision: Decision, tokens_for: Callable[[Sequence], int]) -> None:
    """Admit from the head of the queue until a check fails; ignore a head that is too long.

    `tokens_for` returns the prompt tokens that the policy gives the head in this batch, 0 to stop.
    """
    while server.waiting:
        head = server.waiting[0]
        if head.arrival > now:
            return
        if head.prompt + head.out > server.length_limit:
            server.waiting.pop(0)
            head.state = "ignored"
            decision.ignored.append(head)
            continue
        if server.free - server.initial_blocks(head) < server.watermark:
            return
        if len(server.running) >= server.case.max_num_seqs:
            return
        num_tokens = tokens_for(head)
        if num_tokens == 0:
            return
        server.waiting.pop(0)
        server.set_blocks(head, server.initial_blocks(head))
        server.running.append(head)
        decision.add(head, num_tokens, is_prefill=True)


def add_decodes_preempting(server: Server, decision: Decision) -> list[Sequence]:
    """Add every decode that gets a slot, earliest arrival first, and preempt the latest arrivals for it.

    Returns the paused sequences with an unfinished prompt, which it has removed from `running`.
    """
    unvisited = sorted(server.running, key=lambda sequence: sequence.arrival)
    server.running = []
    unfinished_prefills = []
    while unvisited:
        sequence = unvisited.pop(0)
        if sequence.state != "paused":
            server.running.append(sequence)
            continue
        if sequence.done < sequence.prompt:
            unfinished_prefills.append(sequence)
            continue
        while server.free == 0 and unvisited:
            server.preempt(unvisited.pop(), decision)
        if server.free == 0:
            server.preempt(sequence, decision)
            continue
        if sequence.blocks < server.logical_blocks(sequence):
            server.set_blocks(sequence, sequence.blocks + 1)
        decision.add(sequence, 1, is_prefill=False)
        server.running.append(sequence)
    return unfinished_prefills


def chunk_size(case: Case, done: int) -> int:
    """Return the size of the next chunk after `done` prompt tokens: fixed, or smaller in each stage."""
    if case.dynamic_chunks is None:
        return case.token_budget
    stages, low, high, max_tokens = case.dynamic_chunks
    multiple = min(32, low)
    sizes = [round(int(size) / multiple) * multiple for size in reversed(np.linspace(low, high, stages))]
    return sizes[min(done // math.ceil(max_tokens / stages), stages - 1)]


def sarathi(server: Server, now: float) -> Decision:
    """Decodes first, then started prompts, then new ones, within one token budget for the prompts."""
    decision = Decision()

    def chunk(sequence: Sequence) -> int:
        room = chunk_size(server.case, sequence.done) - decision.num_tokens
        return max(0, min(sequence.prompt - sequence.done, room))

    for sequence in add_decodes_preempting(server, decision):
        if num_tokens := chunk(sequence):
            decision.add(sequence, num_tokens, is_prefill=True)
        server.running.append(sequence)
    admit(server, now, decision, chunk)
    return decision


def vllm(server: Server, now: float) -> Decision:
    """A batch of whole new prompts if there is one, else a batch of decodes."""
    decision = Decision()

    def whole_prompt_in_budget(head: Sequence) -> int:
        return head.prompt if decision.num_tokens + head.prompt <= server.vllm_budget else 0

    admit(server, now, decision, whole_prompt_in_budget)
    if not decision.members and not decision.ignored:
        add_decodes_preempting(server, decision)
    return decision


def orca(server: Server, now: float) -> Decision:
    """Every decode, and as many whole new prompts as `max_num_seqs` and memory allow."""
    decision = Decision()
    server.running = sorted(server.running, key=lambda sequence: sequence.arrival)
    for sequence in server.running:
        if sequence.state == "paused":
            decision.add(sequence, 1, is_prefill=False)
    admit(server, now, decision, lambda head: head.prompt)
    return decision


def faster_transformer(server: Server, now: float) -> Decision:
    """Decodes until none is left to decode, only then new prompts."""
    decision = Decision()
    for sequence in server.running:
        if sequence.state == "paused":
            decision.add(sequence, 1, is_prefill=False)
    if not decision.members:
        admit(server, now, decision, lambda head: head.prompt)
    return decision


POLICIES = {"sarathi": sarathi, "vllm": vllm, "orca": orca, "faster_transformer": faster_transformer}

# Events at the same instant happen in this order.
LAST_STAGE_ENDS, FIRST_STAGE_ENDS, ARRIVALS = range(3)


class Engine:
    """Forms batches, sends them through the pipeline stages in order and applies their results."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.server = Server(case)
        self.num_in_flight = 0
        self.stage_free_at = [0.0] * case.pp
        self.rows: list[Row] = []
        self.events: list[tuple[float, int, list[Member]]] = []
        for arrival in sorted({sequence.arrival for sequence in self.server.sequences}):
            self.events.append((arrival, ARRIVALS, []))

    def run(self) -> None:
        """Go from event to event until none is left."""
        while self.events:
            now = min(time for time, _, _ in self.events)
            due = sorted((event for event in self.events if event[0] == now), key=lambda event: event[1])
            self.events = [event for event in self.events if event[0] != now]
            for _, kind, members in due:
                if kind == LAST_STAGE_ENDS:
                    self.complete(members, now)
                self.schedule(now)

    def schedule(self, now: float) -> None:
        """Form at most one batch. A call that only preempted or ignored requests is repeated."""
        while self.num_in_flight < self.case.pp:
            decision = POLICIES[self.case.scheduler](self.server, now)
            for victim in decision.preempted:
                victim.state = "ignored" if victim in decision.ignored else "waiting"
                victim.prompt += victim.out
                victim.out = 0
                victim.done = 0
            if decision.members:
                self.start(sorted(decision.members, key=lambda member: not member.is_prefill), now)
                return
            if not decision.preempted and not decision.ignored:
                return

    def start(self, members: list[Member], now: float) -> None:
        """Send a batch into the pipeline; each stage takes an equal part of the iteration time."""
        case = self.case
        context = sum(member.sequence.context for member in members)
        num_tokens = sum(member.num_tokens for member in members)
        stage_time = (case.base_s + case.per_token_s * num_tokens + case.per_context_token_s * context) / case.pp
        starts: list[float] = []
        ends: list[float] = []
        for stage, free_at in enumerate(self.stage_free_at):
            starts.append(max(ends[-1] if ends else now, free_at))
            ends.append(starts[-1] + stage_time)
            self.stage_free_at[stage] = ends[-1]
        if case.pp > 1:
            self.events.append((ends[0], FIRST_STAGE_ENDS, members))
        self.events.append((ends[-1], LAST_STAGE_ENDS, members))
        self.num_in_flight += 1
        for member in members:
            member.sequence.state = "running"
            if member.sequence.first_scheduled is None:
                member.sequence.first_scheduled = now
        shown = [(member.sequence.index, member.num_tokens, member.is_prefill) for member in members]
        self.rows.append(Row(now, starts[0], ends[-1], shown, context, self.server.free))

    def complete(self, members: list[Member], now: float) -> None:
        """Apply the results of a batch, except to sequences preempted while it was in flight."""
        for member in members:
            sequence = member.sequence
            if sequence.num_preemptions != member.num_preemptions:
                continue
            sequence.state = "paused"
            if member.is_prefill:
                sequence.done += member.num_tokens
            if sequence.done == sequence.prompt:
                sequence.out += 1
                sequence.token_times.append(now)
            if len(sequence.token_times) == sequence.max_tokens:
                sequence.state = "finished"
                sequence.completed = now
                self.server.set_blocks(sequence, 0)
                self.server.running.remove(sequence)
        self.num_in_flight -= 1


def simulate(case: Case) -> Outcome:
    """Run a case to its end; requests that can never be admitted are left without a completion time."""
    engine = Engine(case)
    engine.run()
    every = engine.server.sequences
    return Outcome(
        rows=engine.rows,
        first_scheduled_s=[sequence.first_scheduled for sequence in every],
        first_token_s=[sequence.token_times[0] if sequence.token_times else None for sequence in every],
        completed_s=[sequence.completed for sequence in every],
        num_preemptions=[sequence.num_preemptions for sequence in every],
        ignored=[sequence.state == "ignored" for sequence in every],
        token_times=[sequence.token_times for sequence in every],
    )
