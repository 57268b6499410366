cimport cython

cdef class Stages:
    cdef public object use
    cdef public double first_free_s
    cdef object _spans, _in_stages
    cdef bint _overlap_sends
    cdef list _free_s, _link_free_s, _latest_s, _accounted_s

    @cython.locals(
        free_s=list, latest_s=list, last="long long", stage="long long", arrives_s=double, upstream_longer_s=double,
        compute_s=double, begin_s=double, end_s=double, waited_s=double, uneven_s=double, message_s=double,
        link_free_s=double, sends_s=double, by_stage=list)
    cpdef tuple pass_through(self, times, double formed_s, double start_s)
    @cython.locals(idle_s=double, longer_s=double, uneven_s=double, stage="long long")
    cpdef make_room(self, double now_s, times)
    cdef double _idle_since(self, long long stage)
    @cython.locals(idle_since_s=double, upstream_s=double, uneven_s=double)
    cdef tuple _count_wait(self, long long stage, double formed_s, double begin_s, double upstream_longer_s)
