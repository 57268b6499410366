cimport cython
from simulator.engine.base cimport Engine, ReplicaRun
from simulator.engine.pipeline_stages cimport Stages
from simulator.replica.batch cimport Batch

cdef class PipelineEngine(Engine):
    cdef long long _num_stages
    cdef Stages _stages
    cdef object _first_ends, _last_ends, _times_in_flight
    cdef double _arrived_s

    @cython.locals(last_s=double, first_s=double)
    cdef _select_next(self)
    cdef _end_batch(self, double now_s)
    @cython.locals(run=ReplicaRun, stages=Stages, start_s=double, batch=Batch)
    cdef _form_batch(self, double now_s)
