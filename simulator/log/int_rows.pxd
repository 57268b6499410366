cimport cython

cdef long long _FIRST_ROWS, _WIDEST

cdef class IntRows:
    cdef public long long num_rows
    cdef long long _width
    cdef long long[::1] _values

    @cython.locals(start="long long", values="long long[::1]")
    cpdef add(
        self, long long first, long long second, long long third=*, long long fourth=*, long long fifth=*)
    cdef _grow(self)
