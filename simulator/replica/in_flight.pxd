cimport cython
from simulator.log.request_events cimport RequestEvents
from simulator.replica.batch cimport Batch, PrefillChunk
from simulator.replica.decode_set cimport DecodeSet
from simulator.replica.requests cimport RequestTable

cdef class InFlight:
    cdef public DecodeSet decoding, forming
    cdef public object batches
    cdef public long long lookahead
    cdef bint _appends_blocks, _keeps_results
    cdef long long _block_size, _num_calls, _num_sets
    cdef object _busy
    cdef RequestTable _requests
    cdef RequestEvents _events
    cdef list _idle

    cpdef DecodeSet set_of(self, request)
    @cython.locals(decodes=DecodeSet)
    cpdef long long context_tokens(self, request)
    cpdef long long known_tokens(self, request)
    cpdef bint completes(self, PrefillChunk chunk)
    @cython.locals(chunk=PrefillChunk)
    cpdef _kind_of(self, request, Batch batch)
    cpdef begin_step(self)
    cpdef form_all(self)
    cpdef form(self, request)
    @cython.locals(context_tokens="long long", num_remaining="long long")
    cpdef bint add(self, request, DecodeSet decodes)
    @cython.locals(decodes=DecodeSet)
    cpdef start(self, Batch batch)
    cpdef advance(self, Batch batch, DecodeSet decodes)
    cpdef rest(self, DecodeSet decodes)
    @cython.locals(batch=Batch, decodes=DecodeSet)
    cpdef Batch end(self)
    cpdef DecodeSet idle_set(self)
    cdef _leave(self, request)
    @cython.locals(small=DecodeSet, large=DecodeSet)
    cdef DecodeSet _merge(self, DecodeSet first, DecodeSet second)
    cdef _move(self, request, DecodeSet source, DecodeSet target)
