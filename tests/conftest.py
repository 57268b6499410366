"""What tests in several files start from."""

import os

# Before NumPy is imported: the tests share the cores, and threads that wait for each other cost more than they give.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# ruff: noqa: E402

import pytest

from simulator.simulation import CHECK_VARIABLE

# Every run of every test checks itself, those of other processes too.
os.environ[CHECK_VARIABLE] = "1"


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer.json with one token for each word."""
    tokenizers = pytest.importorskip("tokenizers")
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    built.save(str(path))
    return str(path)
