"""Load of evenly spaced requests, and when their answers arrive."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

HOST = "127.0.0.1"
_EVENT = b"\ndata: {"  # only at the start of an event: in JSON, line breaks are escaped
_END = b"\r\n0\r\n\r\n"  # of a chunked answer
_OK = b"HTTP/1.1 200"
_PATIENCE_S = 30  # after the last answer is due


class FrontEndError(ValueError):
    """The front end cannot be measured."""


@dataclass(frozen=True)
class Load:
    """Requests at a constant rate.

    Attributes:
        rate: Requests per second.
        output_tokens: Tokens of each answer.
        warm_up_s: Seconds before the measurement.
        seconds: Seconds of the measurement.
    """

    rate: float
    output_tokens: int
    warm_up_s: float
    seconds: float

    @property
    def num_requests(self) -> int:
        """Requests during warm-up and measurement."""
        return round(self.rate * (self.warm_up_s + self.seconds))


@dataclass
class Answer:
    """What the client saw of a request.

    Attributes:
        name: Name of the request, sent along.
        sent_s: When it was sent.
        chunk_s: When each event of the answer arrived; the last event holds the usage.
        is_complete: Whether the end of the answer arrived.
        refusal: The answer, if its status is not 200.
    """

    name: str
    sent_s: float
    chunk_s: list[float] = field(default_factory=list)
    is_complete: bool = False
    refusal: str = ""


class Connection(asyncio.Protocol):
    """A connection, which carries one request at a time.

    Args:
        on_idle: Called with the connection when an answer is complete.
    """

    def __init__(self, on_idle: Callable[["Connection"], object]) -> None:
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._status = b""  # first bytes of the answer
        self._tail = b""  # last bytes so far

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class

    def send(self, name: str, request: bytes) -> Answer:
        """Send a request; its answer fills up as it arrives."""
        assert self._transport is not None
        self._status = self._tail = b""
        self._answer = Answer(name, time.monotonic())
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Note the events in a piece of an answer, cut anywhere."""
        now_s = time.monotonic()
        answer = self._answer
        if answer is None:
            return
        self._status = (self._status + data)[: len(_OK)]
        if not _OK.startswith(self._status):
            answer.refusal += data.decode(errors="replace")
        data = self._tail + data
        answer.chunk_s += [now_s] * data.count(_EVENT)
        self._tail = data[1 - len(_EVENT) :]  # too short to hold an event, which would be counted twice
        if data.endswith(_END):
            answer.is_complete, self._answer = True, None
            self._on_idle(self)


class Client:
    """Sends loads to a server.

    Args:
        port: Port of the server.
        model: Name of the served model.
        prompts: Prompts, used in turn.
    """

    def __init__(self, port: int, model: str, prompts: Sequence[str]) -> None:
        self._port = port
        self._model = model
        self._prompts = prompts
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        self._num_loads = 0

    async def run(self, load: Load, on_edge: Callable[[], object]) -> list[Answer]:
        """Send a load and wait for the answers.

        Args:
            load: The requests.
            on_edge: Called at the start and at the end of the measurement.

        Raises:
            FrontEndError: The server refused a request, or did not answer all of them.
        """
        self._num_loads += 1
        names = [f"{self._num_loads}.{index}" for index in range(load.num_requests)]
        requests = [self._request(name, index, load.output_tokens) for index, name in enumerate(names)]
        clock = asyncio.get_running_loop()
        start_s = clock.time() + 0.1
        clock.call_at(start_s + load.warm_up_s, on_edge)
        clock.call_at(start_s + load.warm_up_s + load.seconds, on_edge)
        answers = []
        for index, (name, request) in enumerate(zip(names, requests, strict=True)):
            await asyncio.sleep(max(0.0, start_s + index / load.rate - clock.time()))
            answers.append((await self._connection()).send(name, request))
        await asyncio.sleep(max(0.0, start_s + load.warm_up_s + load.seconds - clock.time()) + 0.1)
        await self._wait_for(answers, load)
        return answers

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    async def _wait_for(self, answers: list[Answer], load: Load) -> None:
        end_s = time.monotonic() + load.warm_up_s + _PATIENCE_S
        while time.monotonic() < end_s and not all(answer.is_complete or answer.refusal for answer in answers):
            await asyncio.sleep(0.1)
        for answer in answers:
            if answer.refusal:
                raise FrontEndError(f"the server refuses a request: {answer.refusal}")
        if not all(answer.is_complete for answer in answers):
            raise FrontEndError(f"the server does not keep up with {load.rate:g} requests/s: use lower --rates")

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._idle.append), HOST, self._port)
        self._connections.append(connection)
        return connection

    def _request(self, name: str, index: int, output_tokens: int) -> bytes:
        body = {
            "model": self._model,
            "prompt": self._prompts[index % len(self._prompts)],
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        content = json.dumps(body).encode()
        header = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nContent-Type: application/json\r\n"
            f"X-Request-Id: {name}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return header.encode() + content
