"""Environment and fixtures of all tests."""

import os

# Set before NumPy is imported: the test workers share the cores, so threads of BLAS slow them down.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# ruff: noqa: E402

import pytest

from simulator.simulation import CHECK_VARIABLE

# Check the invariants in every simulation of every test, in subprocesses too.
os.environ[CHECK_VARIABLE] = "1"


pytest.register_assert_rewrite("tests.recorded_schedules")


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a tokenizer.json with one token per word."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return str(path)
