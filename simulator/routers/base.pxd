cdef class Arrival:
    cdef public object request, prompt_tokens, session, home

cdef class ReplicaLoad:
    cdef public object device
    cdef public long long num_gpus, num_routed
    cdef object _replica, _catch_up
    cdef long long _num_requests, _num_tokens

    cpdef add(self, long long prompt_tokens)
    cpdef remove(self, long long num_requests, long long prompt_tokens)
