from simulator.iteration_time.attention cimport AttentionTimes
from simulator.iteration_time.base cimport StageTimes
from simulator.iteration_time.lookup cimport Lookup
from simulator.replica.batch cimport Batch

cdef class ComposedTimes(StageTimes):
    cdef object _kernels, _model, _parallel, _collectives, _fused, _sampler, _attention_shape, _layers
    cdef list _launches, _graph_launches, _piece_launches, _padded, _padded_mixed, _entries, _heads, _sends
    cdef AttentionTimes _attention
    cdef Lookup _linear
    cdef long long _num_decodes, _num_prefill_tokens, _num_chunks, _num_layers
    cdef double _base_s, _per_seq_s, _linear_s, _entry_s, _head_s, _host_s, _launch_s

    cdef _look_up(self, Batch batch)
    cdef double _host_time(self, Batch batch)
    cdef double _layer_time(self, Batch batch, long long num_tokens)
    cdef tuple _padded_batch(self, Batch batch)
