from simulator.cluster.routing cimport Routing
from simulator.log.stays cimport StayLog
from simulator.replica.requests cimport RequestTable

cdef class Gateway:
    cdef public Routing routing
    cdef public StayLog stays
    cdef public object queue
    cdef RequestTable _requests
    cdef list _prompt_tokens, _loads

    cpdef send(self, request, double now_s)
    cpdef end(self, replica, requests, double now_s, why, was_running)
