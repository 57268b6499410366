from simulator.engine.base cimport Engine, ReplicaRun

cdef class FrontEnd:
    cdef object _clock, _time
    cdef ReplicaRun _run
    cdef Engine _engine
    cdef double _free_s
    cdef bint _is_instant
    cdef dict _inside
    cdef long long _num_failures

    cpdef arrive(self, request)
    cpdef catch_up(self)
    cpdef advance(self, double until_s)
    cpdef double delay_s(self, long long num_ended=*)
