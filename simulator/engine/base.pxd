from simulator.iteration_time.base cimport StageTimes
from simulator.log.iterations cimport IterationLog
from simulator.replica.batch cimport Batch
from simulator.replica.replica cimport Replica

cdef class ReplicaRun:
    cdef public Replica replica
    cdef public object scheduler, stages
    cdef public StageTimes stage_times
    cdef public IterationLog log
    cdef public double time_limit_s
    cdef public bint overlap_sends, cut_off
    cdef object _on_end
    cdef bint _told

    cpdef enqueue(self, request, double now_s)
    cpdef Batch schedule(self, double now_s, bint until_tokens=*)
    cpdef begin(self, Batch batch, double now_s, double start_s)
    cpdef finish(self, double now_s)
    cpdef bint pop_told(self)

cdef class Engine:
    cdef public double next_s
    cdef ReplicaRun _run
    cdef object _clock, _wake
    cdef bint _is_driven, _is_acting
    cdef double _wake_s

    cpdef advance(self, double until_s)
    cpdef arrive(self, request)
    cpdef fail(self)
    cpdef _act(self)
    cpdef _priority(self)
    cpdef _note_arrival(self, double now_s)
    cpdef _drop_batches(self, double now_s)
    cdef _set_wake(self)
