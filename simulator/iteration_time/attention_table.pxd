cimport cython
from simulator.iteration_time.attention cimport AttentionTimes
from simulator.replica.batch cimport PrefillChunk

cdef long long _LAST

cdef class AttentionTable(AttentionTimes):
    cdef object _gpu, _in_engine, _attention, _decode, _prefill, _flop_per_s, _min_per_token_s
    cdef double _low_tokens, _high_tokens, _intercept_s, _slope_s, _launch_s
    cdef dict _decode_rows, _prefill_rows
    cdef long long _num_decodes
    cdef bint _one_kernel
    cdef double[::1] _context_per_decode, _chunks, _contexts
    cdef short[::1] _context_per_decode_places, _chunk_places, _context_places

    @cython.locals(chunk=PrefillChunk)
    cpdef double add_prefills(self, double seconds, list chunks, bint beside_decodes)
    @cython.locals(chunk=PrefillChunk, num_tokens="long long", num_pairs=double, mean_tokens=double, context=double)
    cdef double _joint_time(self, list chunks)
    @cython.locals(
        row="long long", column="long long", lower=list, upper=list, before=double, after=double, share=double,
        lower_s=double, upper_s=double, small=double, large=double)
    cdef double _equal_chunks_time(self, long long num_chunks, double chunk, double context)
    @cython.locals(row=list, index="long long", low=double, high=double, knots="double[::1]")
    cdef _select_piece(self, long long num_decodes, long long context_tokens)
    cdef list _decode_row(self, num_decodes)
    @cython.locals(number="long long", times=list)
    cdef list _prefill_row(self, long long num_chunks, long long row)
