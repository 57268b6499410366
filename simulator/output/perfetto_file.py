"""Writer of Perfetto traces: tracks of slices and of counts."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    CounterDescriptor,
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder, TraceProtoBuilder

# What a viewer shows of a slice besides its name.
Annotations = Mapping[str, int | Mapping[str, int]]

_ROOT = 0  # the number of the track that has all tracks without a parent
_SEQUENCE = 1  # the only writer of packets
_PACKETS_PER_BLOCK = 1 << 12
_NEEDS_NAMES = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
_FORGETS_NAMES = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED | _NEEDS_NAMES


class PerfettoFile:
    """Writes a trace in compressed blocks of packets.

    Memory does not grow with the trace, as a block needs nothing of the others: a name is written once per block, and
    referred to by number. Events of a track must be in the order of time; those of different tracks need not.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Start a trace.

        Args:
            file: Open for writing; `flush` writes its end.
        """
        self._out = StreamingTraceProtoBuilder(file)
        self._num_tracks = 0
        self._num_children: Counter[int] = Counter()
        self._begin_block()
        root = self._packet().track_descriptor
        root.uuid = _ROOT
        root.child_ordering = TrackDescriptor.EXPLICIT

    def add_group(self, name: str) -> int:
        """Add a group of tracks; return its number."""
        rank = self._num_children[_ROOT]
        return self._describe(name, _ROOT, sibling_order_rank=rank, child_ordering=TrackDescriptor.EXPLICIT)

    def add_track(self, name: str, group: int = _ROOT) -> int:
        """Add a track of slices to a group; return its number."""
        return self._describe(name, group, sibling_order_rank=self._num_children[group])

    def add_lane(self, name: str, track: int) -> int:
        """Add a track below another; viewers merge those of equal name."""
        return self._describe(name, track, sibling_merge_behavior=TrackDescriptor.SIBLING_MERGE_BEHAVIOR_BY_TRACK_NAME)

    def add_counter(self, name: str, group: int) -> int:
        """Add a track of counts to a group; return its number."""
        counter = CounterDescriptor(unit=CounterDescriptor.UNIT_COUNT)
        return self._describe(name, group, sibling_order_rank=self._num_children[group], counter=counter)

    def begin(
        self,
        track: int,
        time_ns: int,
        name: str,
        annotations: Annotations | None = None,
        *,
        flows: Iterable[int] = (),
        ending_flows: Iterable[int] = (),
    ) -> None:
        """Begin a slice.

        Args:
            track: Number of the track.
            time_ns: Time, nanoseconds.
            name: Name of the slice.
            annotations: What a viewer shows besides.
            flows: Flows that pass through the slice; a viewer connects the slices of a flow by arrows.
            ending_flows: Flows that end in the slice.
        """
        packet, event = self._event(track, time_ns, TrackEvent.TYPE_SLICE_BEGIN)
        event.name_iid = self._number(self._event_names, name, packet, "event_names")
        for key, value in (annotations or {}).items():
            entry = event.debug_annotations.add()
            entry.name_iid = self._number(self._annotation_names, key, packet, "debug_annotation_names")
            if isinstance(value, int):
                entry.int_value = value
            else:
                for name, count in value.items():
                    entry.dict_entries.add(name=name, int_value=count)
        event.flow_ids.extend(flows)
        event.terminating_flow_ids.extend(ending_flows)

    def end(self, track: int, time_ns: int) -> None:
        """End the latest open slice of a track."""
        self._event(track, time_ns, TrackEvent.TYPE_SLICE_END)

    def count(self, track: int, time_ns: int, value: int) -> None:
        """Set the count of a track, until it is set again."""
        self._event(track, time_ns, TrackEvent.TYPE_COUNTER)[1].counter_value = value

    def flush(self) -> None:
        """Write the packets added since the last block."""
        packet = self._out.create_packet()
        packet.compressed_packets = zlib.compress(self._block.serialize())
        self._out.write_packet(packet)
        self._begin_block()

    def _begin_block(self) -> None:
        self._block, self._num_packets = TraceProtoBuilder(), 0
        self._event_names: dict[str, int] = {}
        self._annotation_names: dict[str, int] = {}

    def _describe(self, name: str, group: int, **about: Any) -> int:
        self._num_tracks += 1
        self._num_children[group] += 1
        parent = None if group == _ROOT else group
        described = TrackDescriptor(uuid=self._num_tracks, name=name, parent_uuid=parent, **about)
        self._packet().track_descriptor.CopyFrom(described)
        return self._num_tracks

    def _event(self, track: int, time_ns: int, kind: Any) -> tuple[Any, Any]:
        packet = self._packet()
        packet.timestamp = time_ns
        event = packet.track_event
        event.type = kind
        event.track_uuid = track
        return packet, event

    def _packet(self) -> Any:
        if self._num_packets == _PACKETS_PER_BLOCK:
            self.flush()
        packet = self._block.add_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = _NEEDS_NAMES if self._num_packets else _FORGETS_NAMES
        self._num_packets += 1
        return packet

    @staticmethod
    def _number(numbers: dict[str, int], name: str, packet: Any, field: str) -> int:
        """Return the number of a name.

        The first packet of the block that needs it also holds the name.
        """
        if name not in numbers:
            numbers[name] = len(numbers) + 1
            getattr(packet.interned_data, field).add(iid=numbers[name], name=name)
        return numbers[name]
