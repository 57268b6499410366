cimport cython
from simulator.log.int_rows cimport IntRows

cdef long long _NEVER

cdef class DecodeSet:
    cdef public long long index, iteration, num_requests, context_tokens, num_new_blocks
    cdef long long _block_size, _next_end
    cdef dict _members, _finishing
    cdef list _by_residue, _ends
    cdef IntRows _spans

    cpdef long long context_of(self, request)
    cpdef long long remaining_of(self, request)
    cpdef bint needs_block(self, request)
    cpdef add(self, request, long long context_tokens, long long num_remaining, bint appends_blocks)
    cpdef remove(self, request)
    cpdef object advance(self)
    cdef object _end_members(self)
    @cython.locals(offset="long long", joined="long long")
    cdef _leave(self, request)
    cdef _count_new_blocks(self)
