cimport cython
from simulator.replica.batch cimport PrefillChunk

cdef class AttentionTimes:
    cdef public str compute_dtype

    cpdef double add_prefills(self, double seconds, list chunks, bint beside_decodes)
    cpdef double decode_time(self, long long num_decodes, long long context_tokens)

cdef class UngroupedDecode(AttentionTimes):
    cdef AttentionTimes _grouped
    cdef double _reread_s

cdef class RooflineAttention(AttentionTimes):
    cdef double _kernel_s, _product_s, _cached_token_s

    @cython.locals(chunk=PrefillChunk)
    cpdef double add_prefills(self, double seconds, list chunks, bint beside_decodes)
    cdef double _chunk_time(self, long long chunk, long long context)
