cimport cython
from simulator.kv_cache.pool cimport KVPool
from simulator.log.request_events cimport RequestEvents
from simulator.replica.batch cimport Batch, PrefillChunk
from simulator.replica.decode_set cimport DecodeSet
from simulator.replica.in_flight cimport InFlight
from simulator.replica.prefix_caching cimport PrefixCaching
from simulator.replica.requests cimport Lengths, RequestTable

cdef long long _UNLIMITED

cdef class Replica:
    cdef public RequestTable requests
    cdef public object limits, waiting, running, prefilling, note
    cdef public RequestEvents request_events
    cdef public KVPool kv
    cdef public long long block_size, max_model_len, watermark_blocks, num_finished, num_futile_preemptions
    cdef public InFlight in_flight
    cdef public Batch step
    cdef public dict awaiting
    cdef public bint has_ties, last_batch_prefilled
    cdef PrefixCaching _caching
    cdef object _waiting
    cdef double _last_arrival_s
    cdef long long _num_schedulable
    cdef dict _prefilling, _running

    cpdef list by_arrival(self)
    cpdef list paused_prefills(self)
    cpdef long long blocks_for(self, long long num_tokens)
    cpdef long long blocks_to_admit(self, long long num_tokens)
    cpdef long long num_blocks_of(self, request)
    cpdef long long scheduled_tokens(self, request)
    cpdef long long known_tokens(self, request)
    cpdef long long computed_tokens(self, request)
    cpdef allocate_all(self, chunks=*)
    cpdef bint allocate(self, request, long long num_tokens=*) except -1
    cpdef preempt(self, request)
    cpdef ignore(self, request)
    cpdef reorder(self, order)
    cpdef bint enqueue(self, request) except -1
    cpdef Batch begin_step(self)
    cpdef Batch start(self)
    @cython.locals(batch=Batch, chunk=PrefillChunk, in_flight=InFlight, finished=list)
    cpdef list finish(self)
    @cython.locals(decodes=DecodeSet, kv=KVPool)
    cpdef bint repeat(self, Batch batch) except -1
    cpdef tuple fail(self)
    @cython.locals(chunk=PrefillChunk, most="long long", known="long long", known_tokens=Lengths)
    cdef long long _most_repeats(self, Batch batch) except -1
    @cython.locals(chunk=PrefillChunk)
    cdef _continue_chunks(self, Batch batch)
    cdef bint _is_forming(self, request)
    @cython.locals(context_tokens="long long", num_left="long long")
    cdef bint _extend_prefill(self, request, long long num_tokens) except -1
    cdef bint _extend_decode(self, request, long long num_tokens) except -1
    cdef _take_back(self, request)
    cdef _start_decoding(self, request, DecodeSet decodes, list finished)
    cdef _end(self, request)
    cdef list _take_preempted_results(self, Batch batch)
    cdef bint _has_more_urgent(self, request) except -1
    cdef _log_evictions(self)
