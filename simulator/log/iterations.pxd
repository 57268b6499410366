cdef long long _WIDTH, _FIRST_SIZE, _START

cdef class IterationLog:
    cdef public long long num_iterations, num_runs
    cdef public object spans
    cdef long long _num_stages
    cdef list _members, _lone_preemptions
    cdef double[::1] _times, _runs

    cpdef begin_run(
        self, double schedule_s, double start_s, long long num_prefills, long long num_prefill_tokens,
        long long num_decodes, long long prefill_context_tokens, long long decode_context_tokens,
        long long decode_set)
    cpdef add(self, double end_s, long long free_blocks)
