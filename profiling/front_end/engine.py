"""Process that stands in for vLLM's engine core.

It speaks the engine's protocol over zmq and emits one token per running request at fixed steps, computing nothing.
"""

import random
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from profiling.front_end.messages import Messages
from profiling.front_end.parent import pin, when_parent_closes
from profiling.front_end.streams import Stream, Streams
from profiling.front_end.tokenizer import OUTPUT_TOKENS

RECORD = "record.json"


class Engine:
    """Emits tokens step by step until it is stopped.

    Attributes:
        stopped: Ends `run` when set.
        streams: The requests.
    """

    def __init__(self, messages: Messages, step_s: float, tokens: list[int]) -> None:
        self.stopped = threading.Event()
        self.streams = Streams()
        self._messages = messages
        self._step_s = step_s
        self._tokens = tokens
        self._starts: dict[str, int] = {}  # index in `tokens` of the output of each request
        self._received: SimpleQueue[tuple[str, float, Any]] = SimpleQueue()
        self._random = random.Random(0)  # nosec B311

    def run(self) -> None:
        """Receive messages and emit tokens."""
        threading.Thread(target=self._receive, daemon=True).start()
        boundary_s = time.monotonic()
        while not self.stopped.is_set():
            boundary_s = max(boundary_s + self._step_s, time.monotonic() - self._step_s)
            time.sleep(max(0.0, boundary_s - time.monotonic()))
            while not self._received.empty():
                self._process(*self._received.get())
            emitted = [(key, stream, self._next_token(key, stream)) for key, stream in self.streams.step()]
            if emitted:
                self.streams.sent(self._messages.send_tokens(emitted), len(emitted))

    def _receive(self) -> None:
        while True:
            self._received.put(self._messages.receive())

    def _process(self, kind: str, arrival_s: float, content: Any) -> None:
        if kind == "utility":
            self._messages.answer(content)
        elif kind == "abort":
            for request_id in content:
                self.streams.abort(request_id)
        elif kind == "add":
            name = content.external_req_id.split("-")[1]  # of cmpl-NAME-0
            prompt_tokens, output_tokens = len(content.prompt_token_ids), content.sampling_params.max_tokens
            self._starts[content.request_id] = self._random.randrange(len(self._tokens) - output_tokens)
            self.streams.add(content.request_id, Stream(name, arrival_s, prompt_tokens, output_tokens))

    def _next_token(self, request_id: str, stream: Stream) -> int:
        return self._tokens[self._starts[request_id] + stream.num_emitted - 1]


def main(arguments: list[str]) -> None:
    """Emit tokens until the parent closes standard input, then write the record.

    Args:
        arguments: Core (-1: any), folder of the model, seconds per step, zmq addresses of messages to and from the
            engine.
    """
    core, folder, step_s, input_address, output_address = arguments
    pin(int(core))
    tokens = np.load(Path(folder) / OUTPUT_TOKENS).tolist()
    engine = Engine(Messages(input_address, output_address), float(step_s), tokens)
    when_parent_closes(engine.stopped.set)
    engine.run()
    engine.streams.record.write(Path(folder) / RECORD)


if __name__ == "__main__":
    main(sys.argv[1:])
