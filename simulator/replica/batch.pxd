cimport cython
from simulator.replica.decode_set cimport DecodeSet

cdef class PrefillChunk:
    cdef public object request
    cdef public long long num_tokens, context_tokens

cdef class Batch:
    cdef public list chunks, finishing, ignored, preempted, scheduled
    cdef public dict results_of_preempted
    cdef public long long decode_context_tokens, num_decodes, num_prefill_tokens, prefill_context_tokens
    cdef public long long iteration, num_repeats
    cdef public DecodeSet decodes
    cdef public bint repeats, until_arrival
    cdef public object note

    cpdef add_chunk(self, request, long long num_tokens, long long context_tokens)
    @cython.locals(chunk=PrefillChunk)
    cpdef remove_chunk(self, request)
    cpdef list live_decodes(self)
    @cython.locals(chunk=PrefillChunk)
    cpdef list live_chunks(self)
