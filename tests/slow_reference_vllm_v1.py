"""A deliberately slow model of vLLM's V1 scheduler and engine loop, to check the fast simulator against.

Every KV block is an object that sits in one list or another, every queue is a list that is walked from end to end, and
each batch in the pipeline is kept until it completes. There are no counters that could drift from what they count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

BlockHash = int | tuple[str, int]


@dataclass(frozen=True)
class Options:
    """Options of the scheduler, named as in vLLM."""

    max_num_batched_tokens: int
    max_num_seqs: int
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    policy: str = "fcfs"  # or "priority"
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    max_num_active_seqs: int | None = None
    max_num_scheduled_tokens: int | None = None
    prefill_schedule_interval: int = 1
    async_scheduling: bool = False


@dataclass(frozen=True)
class Machine:
    """KV memory, pipeline stages and iteration time."""

    num_blocks: int  # one of them is never used
    block_size: int
    max_model_len: int
    pp: int
    prefix_caching: bool
    base_s: float
    per_token_s: float
    per_context_token_s: float


@dataclass
class Request:
    """A request of the trace; `block_ids` are the hashes of the full blocks of its prompt and output."""

    request_id: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    priority: int = 0
    block_ids: list[int] | None = None


class BatchRow(NamedTuple):
    """A batch as it ran, its members in the order in which they got their tokens."""

    iteration: int
    start_s: float
    end_s: float
    members: list[tuple[str, int, bool]]  # (request_id, num_tokens, is_prefill)


class IterationRow(NamedTuple):
    """State of the scheduler right after it formed a batch."""

    schedule_s: float
    context_tokens: int
    free_blocks: int
    num_running: int
    num_waiting: int
    cached_hashes: int


class PreemptionRow(NamedTuple):
    """A preemption; `iteration` is that of the batch formed by the same call, -1 if it formed none."""

    time_s: float
    iteration: int
    request_id: str
    generated_tokens: int
    num_tokens: int
    in_flight_tokens: int
    prefill_was_complete: bool
    computed_tokens: int


class AdmissionRow(NamedTuple):
    """An admission from the waiting queue to the running list."""

    iteration: int
    request_id: str
    cached_tokens: int
    num_tokens: int
    readmission: bool


@dataclass
class RequestResult:
    """Outcome of one request."""

    request_id: str
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    completed_s: float | None = None
    num_preemptions: int = 0
    ignored: bool = False
    generated_tokens: int = 0
    num_cached_tokens: int | None = None  # None until the first token is out
    cached_tokens_readmissions: int = 0


@dataclass
class Outcome:
    """Everything that happened; `requests` are in the order of the input."""

    batches: list[BatchRow] = field(default_factory=list)
    iterations: list[IterationRow] = field(default_factory=list)
    requests: list[RequestResult] = field(default_factory=list)
    preemptions: list[PreemptionRow] = field(default_factory=list)
    admissions: list[AdmissionRow] = field(default_factory=list)
    num_evictions: int = 0


@dataclass(eq=False)
class Block:
    """A KV block; its hash identifies the prefix that it ends."""

    block_hash: BlockHash | None = None
    ref_count: int = 0


class Memory:
    """All usable blocks: the queue of unreferenced ones, and the blocks of each hash, oldest first."""

    def __init__(self, num_usable: int) -> None:
        self.free = [Block() for _ in range(num_usable)]
        self.cached: dict[BlockHash, list[Block]] = {}
        self.num_evictions = 0

    def take(self) -> Block:
        """Take the front block of the free queue, and evict its hash."""
        block = self.free.pop(0)
        if block.block_hash is not None:
            self.cached[block.block_hash].remove(block)
            if not self.cached[block.block_hash]:
                del self.cached[block.block_hash]
            block.block_hash = None
            self.num_evictions += 1
        block.ref_count = 1
        return block

    def share(self, block: Block) -> None:
        """Add a reference to a cached block, wherever in the free queue it is."""
        if block.ref_count == 0:
            self.free.remove(block)
        block.ref_count += 1

    def release(self, blocks: list[Block]) -> None:
        """Drop one reference of each block. Unhashed blocks are reused first, hashed ones last, tails before heads."""
        for block in blocks:
            block.ref_count -= 1
        unused = [block for block in reversed(blocks) if block.ref_count == 0]
        in_front = [block for block in unused if block.block_hash is None]
        at_back = [block for block in unused if block.block_hash is not None]
        self.free = in_front + self.free + at_back

    def set_block_hash(self, block: Block, block_hash: BlockHash) -> None:
        block.block_hash = block_hash
        self.cached.setdefault(block_hash, []).append(block)


@dataclass(eq=False)
class Sequence:
    """A request in the engine. `computed` includes the tokens in flight."""

    request: Request
    result: RequestResult
    generated: int = 0
    computed: int = 0
    placeholders: int = 0  # output tokens in flight, not yet known; asynchronous scheduling only
    blocks: list[Block] = field(default_factory=list)
    in_flight: list[Member] = field(default_factory=list)
    mid_prefill: bool = False  # its latest chunk ended before its last token
    was_skipped: bool = False  # since it was last queued
    first_allowed_call: int = 0
    num_admissions: int = 0

    @property
    def length(self) -> int:
        """Known tokens: the prompt and the output so far."""
        return self.request.prompt_tokens + self.generated

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sort key of the waiting queue under the priority policy, smallest first."""
        return self.request.priority, self.request.arrival_s, self.request.request_id

    def block_hash(self, index: int) -> BlockHash:
        """Return the hash of block `index`, unique to the request if its block ids are unknown."""
        if self.request.block_ids is None:
            return self.request.request_id, index
        return self.request.block_ids[index]


@dataclass(eq=False)
class Member:
    """Share of a sequence in one batch."""

    sequence: Sequence
    num_tokens: int
    computed_before: int
    makes_token: bool = False
    stale: bool = False  # the sequence was preempted while this was in flight

    @property
    def is_prefill(self) -> bool:
        """Whether it is anything but the single token of a decode."""
        return self.computed_before < max(self.sequence.request.prompt_tokens, self.sequence.length - 1)


@dataclass(eq=False)
class Call:
    """One call of the scheduler, from its empty batch to the final one."""

    now: float
    budget: int
    threshold: int  # 0: none
    on_hold: bool  # prefills have to wait
    members: list[Member] = field(default_factory=list)
    preemptions: list[PreemptionRow] = field(default_factory=list)
    admissions: list[AdmissionRow] = field(default_factory=list)
    carried_prefill: bool = False

    def add(self, sequence: Sequence, num_tokens: int) -> None:
        self.members.append(Member(sequence, num_tokens, sequence.computed))
        self.budget -= num_tokens

    def take_back(self, sequence: Sequence) -> None:
        """Remove a sequence from the batch, if it is in it, and recover its share of the budget."""
        for member in [member for member in self.members if member.sequence is sequence]:
            self.members.remove(member)
            self.budget += member.num_tokens


class Scheduler:
    """The running list, the waiting queue and their KV memory."""

    def __init__(self, options: Options, machine: Machine) -> None:
        self.options = options
        self.machine = machine
        self.by_priority = options.policy == "priority"
        self.memory = Memory(machine.num_blocks - 1)
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.num_calls = 0
        self.num_batches = 0
        self.last_prefill_batch = -options.prefill_schedule_interval
        self.queue_is_left = False  # requests were still queued after the last call that could admit prefills

    # The call

    def schedule(self, now: float) -> Call:
        """Form the next batch, which may be empty, and count its tokens as computed."""
        self.num_calls += 1
        call = Call(now, self.token_budget(), self.chunk_threshold(), self.holds_prefills())
        self.serve_running(call)
        if not call.preemptions:
            self.admit_waiting(call)
            if not call.on_hold:
                self.queue_is_left = any(not sequence.was_skipped for sequence in self.waiting)
        for member in call.members:
            self.launch(member)
        if call.members:
            self.num_batches += 1
            if call.carried_prefill:
                self.last_prefill_batch = self.num_batches
        return call

    def launch(self, member: Member) -> None:
        """Mark the tokens of a member as in flight."""
        sequence = member.sequence
        sequence.computed += member.num_tokens
        sequence.in_flight.append(member)
        sequence.mid_prefill = sequence.computed < sequence.length + sequence.placeholders
        member.makes_token = not sequence.mid_prefill
        if self.options.async_scheduling and member.makes_token:
            sequence.placeholders += 1
            sequence.first_allowed_call = self.num_calls + self.machine.pp

    def token_budget(self) -> int:
        limit = self.options.max_num_scheduled_tokens
        most = self.options.max_num_batched_tokens
        return most if limit is None else min(most, limit)

    def chunk_threshold(self) -> int:
        """Return the longest chunk of a request beside others, 0 if it has no limit."""
        num_requests = len(self.running) + len(self.waiting)
        threshold = self.options.long_prefill_token_threshold if num_requests > 1 else 0
        if self.options.long_prefill_token_threshold_adaptive and num_requests > 0:
            threshold = max(threshold, self.options.max_num_batched_tokens // num_requests)
        return threshold

    def holds_prefills(self) -> bool:
        """Return whether too few batches have run since the last prefill to schedule another one."""
        interval = self.options.prefill_schedule_interval
        if interval <= 1 or self.num_batches + 1 - self.last_prefill_batch >= interval:
            return False
        return any(not sequence.mid_prefill for sequence in self.running) and not self.queue_is_left

    # Running requests

    def serve_running(self, call: Call) -> None:
        """Give tokens to the running requests in order of admission; preempt when blocks run out."""
        position = 0
        while position < len(self.running) and call.budget > 0:
            sequence = self.running[position]
            num_tokens = self.tokens_for_running(sequence, call)
            if num_tokens <= 0:
                position += 1
                continue
            while not self.allocate(sequence, num_tokens):
                victim = self.choose_victim()
                if self.running.index(victim) < position:
                    position -= 1
                self.preempt(victim, call)
                if victim is sequence:
                    break
            if sequence in self.running:
                call.carried_prefill = call.carried_prefill or sequence.mid_prefill
                call.add(sequence, num_tokens)
                position += 1
            elif not self.by_priority:
                return

    def tokens_for_running(self, sequence: Sequence, call: Call) -> int:
        """Return the tokens that a running request may compute in this call, 0 or less if it is skipped."""
        if call.on_hold and sequence.mid_prefill:
            return 0
        if self.options.async_scheduling:
            all_tokens = sequence.request.prompt_tokens + sequence.request.output_tokens
            if sequence.placeholders > 0 and sequence.computed + 2 - sequence.placeholders >= all_tokens:
                return 0
            if self.num_calls < sequence.first_allowed_call:
                return 0
        num_tokens = sequence.length + sequence.placeholders - sequence.computed
        if call.threshold > 0:
            num_tokens = min(num_tokens, call.threshold)
        return min(num_tokens, call.budget, self.machine.max_model_len - 1 - sequence.computed)

    def choose_victim(self) -> Sequence:
        """Return the last admitted request or, by priority, the least urgent one, the first of equals."""
        if not self.by_priority:
            return self.running[-1]
        return max(self.running, key=lambda sequence: (sequence.request.priority, sequence.request.arrival_s))

    def preempt(self, victim: Sequence, call: Call) -> None:
        """Free the blocks of a running request and queue it at the head; it keeps its output tokens."""
        call.take_back(victim)
        call.preemptions.append(
            PreemptionRow(
                time_s=call.now,
                iteration=-1,
                request_id=victim.request.request_id,
                generated_tokens=victim.generated,
                num_tokens=victim.length,
                in_flight_tokens=sum(member.num_tokens for member in victim.in_flight),
                prefill_was_complete=not victim.mid_prefill,
                computed_tokens=victim.computed,
            )
        )
        self.running.remove(victim)
        self.release(victim)
        for member in victim.in_flight:
            member.stale = True
        victim.computed = 0
        victim.placeholders = 0
        victim.mid_prefill = False
        victim.was_skipped = False
        victim.result.num_preemptions += 1
        self.waiting.insert(0, victim)
        self.sort_waiting()

    def sort_waiting(self) -> None:
        if self.by_priority:
            self.waiting.sort(key=lambda sequence: sequence.rank)

    # Waiting requests

    def arrive(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)
        self.sort_waiting()

    def admit_waiting(self, call: Call) -> None:
        """Admit from the head of the queue until one does not fit; skip preempted requests still in flight."""
        limit = self.options.max_num_active_seqs or self.options.max_num_seqs
        position = 0
        while position < len(self.waiting) and call.budget > 0 and len(self.running) < limit:
            head = self.waiting[position]
            if head.in_flight:
                head.was_skipped = True
                position += 1
                continue
            hit_blocks = self.cached_prefix(head)
            num_tokens = self.tokens_for_head(head, len(hit_blocks) * self.machine.block_size, call)
            if num_tokens == 0 or not self.allocate(head, num_tokens, hit_blocks):
                return
            self.waiting.remove(head)
            self.admit(head, num_tokens, len(hit_blocks) * self.machine.block_size, call)

    def tokens_for_head(self, head: Sequence, hit: int, call: Call) -> int:
        """Return the size of the first chunk of the head of the queue, 0 if it has to wait."""
        num_tokens = head.length - hit
        if call.on_hold and num_tokens > 1:
            return 0
        if call.threshold > 0:
            num_tokens = min(num_tokens, call.threshold)
        if not self.options.enable_chunked_prefill and num_tokens > call.budget:
            return 0
        return min(num_tokens, call.budget)

    def admit(self, head: Sequence, num_tokens: int, hit: int, call: Call) -> None:
        """Append the head of the queue to the running requests."""
        readmission = head.num_admissions > 0
        head.num_admissions += 1
        if readmission:
            head.result.cached_tokens_readmissions += hit
        else:
            head.result.num_cached_tokens = hit
        call.admissions.append(AdmissionRow(-1, head.request.request_id, hit, head.length, readmission))
        call.carried_prefill = call.carried_prefill or hit < head.length - 1
        head.computed = hit
        self.running.append(head)
        call.add(head, num_tokens)

    # Memory

    def need(self, num_tokens: int) -> int:
        """Return the blocks that hold `num_tokens` tokens."""
        return -(-num_tokens // self.machine.block_size)

    def cached_prefix(self, sequence: Sequence) -> list[Block]:
        """Return the cached blocks of the longest prefix; the last token is always computed."""
        matches: list[Block] = []
        if not self.machine.prefix_caching:
            return matches
        for index in range((sequence.length - 1) // self.machine.block_size):
            blocks = self.memory.cached.get(sequence.block_hash(index))
            if blocks is None:
                break
            matches.append(blocks[0])
        return matches

    def allocate(self, sequence: Sequence, num_tokens: int, hit_blocks: list[Block] | None = None) -> bool:
        """Allocate the blocks of one more chunk, or change nothing; only an admission passes `hit_blocks`."""
        hits = hit_blocks or []
        computed = sequence.computed if hit_blocks is None else len(hits) * self.machine.block_size
        longest = self.machine.max_model_len
        num_new = max(0, self.need(min(computed + num_tokens, longest)) - len(sequence.blocks) - len(hits))
        num_out_of_queue = sum(block.ref_count == 0 for block in hits)
        num_spared = 0
        if hit_blocks is not None:
            if self.running:
                num_spared = int(self.options.watermark * self.machine.num_blocks)
            for_all_tokens = self.need(min(sequence.length, longest)) - len(hits) + num_out_of_queue + num_spared
            if self.options.scheduler_reserve_full_isl and for_all_tokens > len(self.memory.free):
                return False
        if num_new + num_out_of_queue + num_spared > len(self.memory.free):
            return False
        for block in hits:
            self.memory.share(block)
        sequence.blocks += hits
        sequence.blocks += [self.memory.take() for _ in range(num_new)]
        self.cache_blocks(sequence, min(computed + num_tokens, sequence.length))
        return True

    def cache_blocks(self, sequence: Sequence, num_tokens: int) -> None:
        """Hash the blocks that the first `num_tokens` tokens fill, computed or not."""
        if not self.machine.prefix_caching:
            return
        for index in range(num_tokens // self.machine.block_size):
            if sequence.blocks[index].block_hash is None:
                self.memory.set_block_hash(sequence.blocks[index], sequence.block_hash(index))

    def release(self, sequence: Sequence) -> None:
        self.memory.release(sequence.blocks)
        sequence.blocks = []

    # Results

    def process(self, member: Member, now: float) -> None:
        """Apply the result of one member of a batch."""
        sequence = member.sequence
        sequence.in_flight.remove(member)
        if not member.makes_token:
            return
        sequence.generated += 1
        sequence.result.generated_tokens = sequence.generated
        if sequence.result.first_token_s is None:
            sequence.result.first_token_s = now
        if self.options.async_scheduling and not member.stale:
            sequence.placeholders -= 1
            in_flight_tokens = sum(pending.num_tokens for pending in sequence.in_flight)
            self.cache_blocks(sequence, sequence.computed - in_flight_tokens)
        if sequence.generated == sequence.request.output_tokens or sequence.length == self.machine.max_model_len:
            sequence.result.completed_s = now
            self.release(sequence)
            (self.running if sequence in self.running else self.waiting).remove(sequence)


@dataclass(eq=False)
class InFlight:
    """A batch in the pipeline."""

    end_s: float
    members: list[Member]


class Engine:
    """Calls the scheduler, sends its batches through the pipeline stages and processes them in the same order."""

    def __init__(self, requests: list[Request], options: Options, machine: Machine, max_batches: int | None) -> None:
        self.machine = machine
        self.max_batches = max_batches
        self.scheduler = Scheduler(options, machine)
        self.outcome = Outcome()
        self.future_arrivals: list[Sequence] = []
        for request in requests:
            result = RequestResult(request.request_id)
            self.outcome.requests.append(result)
            if request.prompt_tokens >= machine.max_model_len:
                result.ignored = True
            else:
                self.future_arrivals.append(Sequence(request, result))
        self.future_arrivals.sort(key=lambda sequence: sequence.request.arrival_s)
        self.now = 0.0
        self.queue: list[InFlight] = []
        self.capacity = machine.pp + (1 if options.async_scheduling else 0)
        self.stage_free_at = [0.0] * machine.pp
        self.num_idle_calls = 0  # in a row that did nothing while nothing was in flight

    def run(self) -> None:
        """Serve until every request is done or stuck, or until `max_batches` batches are formed."""
        while self.max_batches is None or len(self.outcome.batches) < self.max_batches:
            self.enqueue_arrivals()
            has_requests = bool(self.scheduler.running or self.scheduler.waiting)
            if (not has_requests and not self.queue) or self.is_stuck():
                if not self.future_arrivals:
                    return
                self.now = max(self.now, self.future_arrivals[0].request.arrival_s)
                continue
            if has_requests:
                self.call_scheduler()
                if len(self.queue) < self.capacity:
                    continue
            self.finish_oldest()

    def enqueue_arrivals(self) -> None:
        while self.future_arrivals and self.future_arrivals[0].request.arrival_s <= self.now:
            self.scheduler.arrive(self.future_arrivals.pop(0))
            self.num_idle_calls = 0

    def is_stuck(self) -> bool:
        """Return whether repeated calls at this instant did nothing; a few may pass before one succeeds."""
        return self.num_idle_calls > self.machine.pp + 2

    def call_scheduler(self) -> None:
        """Form one batch and queue it, empty or not."""
        call = self.scheduler.schedule(self.now)
        iteration = len(self.outcome.batches) if call.members else -1
        self.outcome.preemptions += [row._replace(iteration=iteration) for row in call.preemptions]
        self.outcome.admissions += [row._replace(iteration=iteration) for row in call.admissions]
        if call.members:
            self.queue.append(InFlight(self.execute(call), call.members))
        else:
            self.queue.append(InFlight(self.now, []))
        if call.preemptions or any(batch.members for batch in self.queue):
            self.num_idle_calls = 0
        else:
            self.num_idle_calls += 1

    def execute(self, call: Call) -> float:
        """Send a batch through the stages, which share its time equally; return its end time."""
        machine = self.machine
        num_tokens = sum(member.num_tokens for member in call.members)
        context = sum(member.computed_before for member in call.members)
        duration = machine.base_s + machine.per_token_s * num_tokens + machine.per_context_token_s * context
        starts: list[float] = []
        ends: list[float] = []
        for stage, free_at in enumerate(self.stage_free_at):
            starts.append(max(ends[-1] if ends else self.now, free_at))
            ends.append(starts[-1] + duration / machine.pp)
            self.stage_free_at[stage] = ends[-1]
        for member in call.members:
            if member.sequence.result.first_scheduled_s is None:
                member.sequence.result.first_scheduled_s = self.now
        self.record(call.members, context, starts[0], ends[-1])
        return ends[-1]

    def record(self, members: list[Member], context: int, start_s: float, end_s: float) -> None:
        shown = [(member.sequence.request.request_id, member.num_tokens, member.is_prefill) for member in members]
        self.outcome.batches.append(BatchRow(len(self.outcome.batches), start_s, end_s, shown))
        self.outcome.iterations.append(
            IterationRow(
                schedule_s=self.now,
                context_tokens=context,
                free_blocks=len(self.scheduler.memory.free),
                num_running=len(self.scheduler.running),
                num_waiting=len(self.scheduler.waiting),
                cached_hashes=len(self.scheduler.memory.cached),
            )
        )

    def finish_oldest(self) -> None:
        """Wait for the oldest batch and process its members in order."""
        batch = self.queue.pop(0)
        self.now = max(self.now, batch.end_s)
        for member in batch.members:
            self.scheduler.process(member, self.now)


def serve(requests: list[Request], options: Options, machine: Machine, max_batches: int | None = None) -> Outcome:
    """Serve all requests, or stop right after `max_batches` batches have been formed."""
    engine = Engine(requests, options, machine, max_batches)
    engine.run()
    for result in engine.outcome.requests:
        if result.generated_tokens == 0:
            result.num_cached_tokens = None
    engine.outcome.num_evictions = engine.scheduler.memory.num_evictions
    return engine.outcome
