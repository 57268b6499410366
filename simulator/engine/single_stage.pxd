cimport cython
from simulator.engine.base cimport Engine, ReplicaRun
from simulator.replica.batch cimport Batch

cdef class SingleStageEngine(Engine):
    cdef Batch _batch
    cdef double _start_s
    cdef bint _arrived

    @cython.locals(run=ReplicaRun, batch=Batch, now_s=double, stands=bint)
    cpdef _act(self)
    @cython.locals(run=ReplicaRun, batch=Batch)
    cdef _start(self, double now_s)
    cdef _iterate(self, Batch batch)
