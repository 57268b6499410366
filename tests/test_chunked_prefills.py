"""The chunked-prefills-only scheduler: chunks and decodes alternate."""

from simulator.iteration_time import Affine
from simulator.schedulers import ChunkedPrefills
from tests.helpers import serve

SECOND = Affine(base_s=1.0, per_token_s=0.0)


def test_chunks_and_decodes_alternate() -> None:
    # The prefill of request 0 takes the first second. Then chunks of request 1 and decodes of 0 alternate.
    result = serve([(0.0, 8, 4), (0.5, 24, 2)], ChunkedPrefills(chunk_size=8), iteration_time=SECOND)
    sizes = list(
        zip(
            result.replicas[0].iterations["num_prefill_tokens"].tolist(),
            result.replicas[0].iterations["num_decodes"].tolist(),
            strict=True,
        )
    )
    assert sizes == [(8, 0), (0, 1), (8, 0), (0, 1), (8, 0), (0, 1), (8, 0), (0, 1)]
    assert result.requests["completed_s"].tolist() == [6.0, 8.0]


def test_new_requests_start_only_when_no_prefill_is_unfinished() -> None:
    result = serve([(0.0, 20, 1), (0.0, 20, 1)], ChunkedPrefills(chunk_size=16), iteration_time=SECOND)
    assert result.replicas[0].iterations["num_prefill_tokens"].tolist() == [16, 4, 16, 4]


def test_no_iteration_mixes_chunks_and_decodes() -> None:
    requests = [(0.3 * number, 20 + 7 * number % 40, 1 + number % 9) for number in range(60)]
    iterations = serve(requests, ChunkedPrefills(chunk_size=16), num_blocks=40).replicas[0].iterations
    assert not ((iterations["num_prefill_tokens"] > 0) & (iterations["num_decodes"] > 0)).any()
    assert iterations["num_prefill_tokens"].max() == 16
