from simulator.replica.batch cimport Batch

cdef class StageTimes:
    cdef public object provenance
    cdef object _function

    cpdef object of_batch(self, Batch batch)
    cpdef double of_single_stage(self, Batch batch)
