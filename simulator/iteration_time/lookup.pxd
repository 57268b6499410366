cdef class Lookup:
    cdef object _function
    cdef double[::1] _values

    cpdef double at(self, long long number)
    cdef _compute(self, long long number)
