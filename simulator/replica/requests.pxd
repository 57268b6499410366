cdef class Lengths(list):
    cpdef set(self, request, num_tokens)

cdef class RequestTable:
    cdef public list arrival_s, engine_arrival_s
    cdef public Lengths known_tokens, total_tokens
    cdef public object prompt_tokens, priority, id_rank, block_hashes

