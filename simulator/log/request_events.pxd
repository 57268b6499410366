from simulator.log.int_rows cimport IntRows

cdef class RequestEvents:
    cdef public IntRows admissions, prefill_ends, finishes, decode_spans, preemptions, evictions
    cdef public list ignored
