"""Messages of vLLM's API server to and from its engine, over zmq."""

import time
from importlib import import_module
from typing import Any

from profiling.front_end.streams import Stream


class Messages:
    """The engine's side of the protocol, in vLLM's own encoding."""

    def __init__(self, input_address: str, output_address: str) -> None:
        zmq = import_module("zmq")
        self._engine = import_module("vllm.v1.engine")
        serial = import_module("vllm.v1.serial_utils")
        context = zmq.Context()
        self._input = context.socket(zmq.DEALER)
        self._input.setsockopt(zmq.IDENTITY, (0).to_bytes(2, "little"))
        self._input.connect(input_address)
        self._output = context.socket(zmq.PUSH)
        self._output.connect(output_address)
        self._encode = serial.MsgpackEncoder().encode
        self._utility_result = serial.UtilityResult
        self._scheduler_stats = import_module("vllm.v1.metrics.stats").SchedulerStats
        kinds = self._engine.EngineCoreRequestType
        self._kinds = {kinds.ADD.value: "add", kinds.ABORT.value: "abort", kinds.UTILITY.value: "utility"}
        any_decoder = serial.MsgpackDecoder()
        self._decoders = dict.fromkeys(self._kinds.values(), any_decoder)
        self._decoders["add"] = serial.MsgpackDecoder(self._engine.EngineCoreRequest)
        self._input.send(b"")  # ready

    def receive(self) -> tuple[str, float, Any]:
        """Wait for a message; return its kind, arrival time and content."""
        kind, *frames = self._input.recv_multipart(copy=False)
        arrival_s = time.monotonic()
        name = self._kinds.get(bytes(kind.buffer), "other")
        return name, arrival_s, self._decoders[name].decode(frames) if name in self._decoders else None

    def answer(self, call: Any) -> None:
        """Answer a call: the tasks that the engine supports, or nothing."""
        _, call_id, function, _ = call
        result = self._utility_result(("generate",) if function == "get_supported_tasks" else None)
        output = self._engine.UtilityOutput(call_id, result=result)
        self._send(self._engine.EngineCoreOutputs(utility_output=output))

    def send_tokens(self, emitted: list[tuple[str, Stream, int]]) -> float:
        """Send the tokens of a step; return when.

        Args:
            emitted: Id of the request, the request and its token.
        """
        outputs = [self._output_of(request_id, stream, token) for request_id, stream, token in emitted]
        stats = self._scheduler_stats(num_running_reqs=len(outputs), kv_cache_usage=0.1)
        return self._send(
            self._engine.EngineCoreOutputs(outputs=outputs, scheduler_stats=stats, timestamp=time.monotonic())
        )

    def _output_of(self, request_id: str, stream: Stream, token: int) -> Any:
        reason = self._engine.FinishReason.LENGTH if stream.is_finished else None
        events = None
        if stream.num_emitted == 1:
            kinds = self._engine.EngineCoreEventType
            queued = self._engine.EngineCoreEvent(kinds.QUEUED, stream.arrival_s)
            events = [queued, self._engine.EngineCoreEvent(kinds.SCHEDULED, stream.arrival_s)]
        return self._engine.EngineCoreOutput(request_id, [token], finish_reason=reason, events=events)

    def _send(self, outputs: Any) -> float:
        frames = self._encode(outputs)
        sent_s = time.monotonic()
        self._output.send_multipart(frames, copy=False)
        return sent_s
