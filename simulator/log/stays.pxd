cimport cython

cdef int _WIDTH

cdef class StayLog:
    cdef long long[::1] _latest
    cdef double[::1] _rows
    cdef long long _num_stays

    @cython.locals(first="long long", rows="double[::1]")
    cpdef begin(self, long long request, long long replica, double now_s)
    @cython.locals(first="long long", rows="double[::1]", latest="long long[::1]", request="long long")
    cpdef end(self, requests, double now_s, int why, bint was_running)
