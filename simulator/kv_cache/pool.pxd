cdef class KVPool:
    cdef public long long num_blocks, free_blocks, block_size
    cdef public tuple groups
    cdef public object prefix
    cdef dict _allocated
    cdef long long _num_evicted
    cdef bint _is_one_group

    cpdef long long blocks_for(self, long long num_tokens)
    cpdef long long allocated(self, request, long long context_tokens)
    cpdef tuple match(self, request, long long max_tokens)
    cpdef long long acquire(self, request, long long num_tokens)
    cpdef bint extend(self, request, long long num_tokens)
    cpdef follow_context(self, request, long long num_tokens)
    cpdef cache(self, request, long long num_tokens)
    cpdef release(self, request, long long context_tokens, long long computed_tokens)
    cpdef evict(self)
    cpdef long long pop_evicted(self)
