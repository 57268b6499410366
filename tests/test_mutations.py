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
def test_the_laws_catch_nine_in_ten_planted_faults() -> None:
    # Separate processes, because they fork.
    command = [sys.executable, "-m", "tests.mutations", "number=40"]
    halves = [
        subprocess.Popen([*command, part], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=REPOSITORY)
        for part in ("part=0/2", "part=1/2")
    ]
    printed = "".join(half.communicate()[0] for half in halves)
    counts = re.findall(r"(\d+) of (\d+) faults caught", printed)
    caught, total = (sum(map(int, column)) for column in zip(*counts, strict=True))
    assert total == 40, printed
    assert caught >= 0.9 * total, printed
