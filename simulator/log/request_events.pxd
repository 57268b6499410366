cdef class RequestEvents:
    cdef public list admissions, prefill_ends, finishes, decode_spans, preemptions, evictions, ignored
