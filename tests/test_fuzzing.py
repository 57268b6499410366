"""Readers and the override parser against mutated and random inputs."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz_targets import TARGETS, seeds_of

PIECES = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"'", b",", b"=", b"({", b"[[", b"]", b"}", b"${", b"nan",
    b"-1", b"1e999", b"9" * 30, b"null", b"true", b"*a", b"&a ", b"!!python/name:os.system", b"\\", b":", b"#", b"~",
    b"@", b"+", b"\x1f\x8b\x08", b"PK\x03\x04", b"\x93NUMPY", b"hydra", b"_target_", "\u00e9\u202e".encode(),
]  # fmt: skip


def mutate(seed: bytes, random_seed: int) -> bytes:
    """Mutate a valid input in a few positions, as a fuzzer does."""
    draw = random.Random(random_seed)
    content = bytearray(seed)
    for _ in range(draw.choice([1, 1, 2, 5])):
        position = draw.randint(0, len(content))
        match draw.randint(0, 3):
            case 0:
                content[position:position] = draw.choice(PIECES)
            case 1:
                del content[position : position + draw.randint(1, 8)]
            case 2:
                content[position : position + 1] = bytes([draw.randint(0, 255)])
            case _:
                content[position:position] = content[: draw.randint(0, 40)]
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_accepted_or_refused_in_one_line(name: str) -> None:
    seeds = seeds_of(name)
    # Profiles are large files; overrides and saved runs are slow to load.
    max_examples = 40 if name == "profile" else 120 if name in ("override", "saved_run") else 300

    @given(
        st.one_of(
            st.binary(max_size=60),
            st.text(max_size=40).map(str.encode),
            st.builds(mutate, st.sampled_from(seeds), st.integers(0, 1 << 30)),
        )
    )
    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck))
    def run_target(content: bytes) -> None:
        TARGETS[name](content)

    run_target()
