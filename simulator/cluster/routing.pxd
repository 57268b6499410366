cdef class Routing:
    cdef object _router, _random, _sessions
    cdef list _loads, _up, _loads_up
    cdef dict _session_replicas, _positions
    cdef long long _num_arrived

    cpdef choose(self, request, prompt_tokens)
