from simulator.kv_cache.pool cimport KVPool
from simulator.replica.batch cimport Batch
from simulator.replica.decode_set cimport DecodeSet
from simulator.replica.in_flight cimport InFlight

cdef class PrefixCaching:
    cdef public dict shared_outputs
    cdef KVPool _kv
    cdef InFlight _in_flight
    cdef dict _running, _prefilling

    cpdef add(self, request, long long computed_tokens)
    cpdef discard(self, request)
    cpdef list in_batch_order(self, list requests)
    cpdef cache_scheduled(self, requests, bint all_decodes=*)
    cpdef cache_repeated(self, Batch batch)
    cpdef cache_known(self)
    cdef dict _filled_by_all(self, DecodeSet forming)
    cdef long long _fills(self, request, DecodeSet forming)
    cdef list _shared(self, requests)
