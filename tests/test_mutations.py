"""The laws catch at least nine in ten faults planted in schedulers, replica and metrics."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


@pytest.mark.slow
def test_the_laws_hold_without_planted_faults() -> None:
    command = [sys.executable, "-c", "from tests.laws import check_all; check_all()"]
    subprocess.run(command, check=True, env=ENVIRONMENT, cwd=REPOSITORY)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["0/2", "1/2"])
def test_the_laws_catch_nine_in_ten_planted_faults(part: str) -> None:
    # A separate process, because it forks.
    command = [sys.executable, "-m", "tests.mutations", "number=40", f"part={part}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=REPOSITORY)
    counts = re.search(r"(\d+) of (\d+) faults caught", done.stdout)
    assert counts, done.stdout
    caught, total = map(int, counts.groups())
    assert total == 20
    assert caught >= 0.9 * total, done.stdout
