cdef class _Span:
    cdef public long long first, end
    cdef public list copies

cdef class _Copy:
    cdef public _Span span
    cdef public long long ref_count
    cdef public _Copy previous, next

cdef class BlockHashCache:
    cdef public long long num_evictable
    cdef object _block_hashes
    cdef dict _spans, _referenced, _num_cached, _runs
    cdef _Copy _free_queue
