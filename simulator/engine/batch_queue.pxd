cimport cython
from simulator.engine.base cimport Engine, ReplicaRun
from simulator.engine.pipeline_stages cimport Stages
from simulator.replica.batch cimport Batch

cdef class BatchQueueEngine(Engine):
    cdef long long _depth
    cdef Stages _stages
    cdef object _queue, _times

    @cython.locals(now_s=double, num_idle_calls="long long")
    cpdef _act(self)
    cdef _end_batch(self, double now_s)
    @cython.locals(run=ReplicaRun, stages=Stages, start_s=double, batch=Batch)
    cdef bint _schedule(self, double now_s)
