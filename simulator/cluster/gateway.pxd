from simulator.log.stays cimport StayLog
from simulator.replica.requests cimport RequestTable

cdef class Gateway:
    cdef public StayLog stays
    cdef public object queue
    cdef RequestTable _requests
    cdef object _sessions, _router, _random
    cdef long long _num_arrived
    cdef list _prompt_tokens, _loads, _up, _loads_up
    cdef dict _session_replicas, _positions

    cpdef send(self, request, double now_s)
    cpdef end(self, replica, requests, double now_s, why, was_running)
