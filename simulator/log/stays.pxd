cdef class StayLog:
    cdef object _arrived_s
    cdef list _replica, _number, _ended
    cdef long long _num_begun

    cpdef begin(self, request, replica)
    cpdef end(self, requests, double now_s, why, was_running)
