"""Running requests of the stand-in for the engine, and its record."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Stream:
    """A request from its arrival at the engine to its last token.

    Attributes:
        name: Name that the client gave to the request.
        arrival_s: When its message arrived.
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens that it emits.
        first_step: Index of the step that emitted its first token; None: not yet.
        num_emitted: Tokens emitted so far.
    """

    name: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_step: int | None = None
    num_emitted: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the last token was emitted."""
        return self.num_emitted >= self.output_tokens


@dataclass
class Record:
    """What the engine received and sent.

    Times are those of the monotonic clock, which processes share.

    Attributes:
        sent_s: When the message of each step was sent.
        num_tokens: Tokens of each message.
        streams: All requests.
    """

    sent_s: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record."""
        content = json.loads(path.read_text(encoding="utf-8"))
        streams = [Stream(**stream) for stream in content["streams"]]
        return cls(content["sent_s"], content["num_tokens"], streams)


class Streams:
    """One token per running request and step.

    Attributes:
        record: What was received and sent so far.
    """

    def __init__(self) -> None:
        self.record = Record()
        self._waiting: dict[str, Stream] = {}
        self._running: dict[str, Stream] = {}

    def add(self, request_id: str, stream: Stream) -> None:
        """Add a request, which runs from the next step on."""
        self.record.streams.append(stream)
        self._waiting[request_id] = stream

    def abort(self, request_id: str) -> None:
        """Drop a request that the client has left."""
        self._waiting.pop(request_id, None)
        self._running.pop(request_id, None)

    def step(self) -> list[tuple[str, Stream]]:
        """Return ids and requests of which each emits one token now."""
        emitting = list(self._running.items())
        for request_id, stream in emitting:
            if stream.first_step is None:
                stream.first_step = len(self.record.sent_s)
            stream.num_emitted += 1
            if stream.is_finished:
                del self._running[request_id]
        self._running |= self._waiting
        self._waiting = {}
        return emitting

    def sent(self, time_s: float, num_tokens: int) -> None:
        """Note that the message of a step was sent."""
        self.record.sent_s.append(time_s)
        self.record.num_tokens.append(num_tokens)
