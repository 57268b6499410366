"""Fuzz the file readers and the override parser with atheris, a coverage-guided fuzzer.

    python -m tests.fuzz TARGET [seconds=60]

TARGET is a key of `fuzz_targets.TARGETS`, or all. A crash ends the run with a traceback and leaves the input in the
current folder. Atheris is not a dependency of the project: pip install atheris.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found,unused-ignore]

with atheris.instrument_imports(include=["simulator", "traces", "yaml", "hydra", "omegaconf"]):
    from tests.fuzz_targets import TARGETS, seeds_of


def main() -> None:
    """Run the command line."""
    target, *rest = sys.argv[1:] or ["all"]
    seconds = dict(option.split("=", 1) for option in rest).get("seconds", "60")
    if target == "all":
        for name in TARGETS:
            subprocess.run([sys.executable, "-m", "tests.fuzz", name, f"seconds={seconds}"], check=True)
        return
    with tempfile.TemporaryDirectory() as corpus:
        for index, seed in enumerate(seeds_of(target)):
            (Path(corpus) / str(index)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, f"-max_total_time={seconds}", "-rss_limit_mb=4096"], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
