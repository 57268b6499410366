"""How the project writes: short first lines of docstrings, and none of the phrases that read as translated."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

CODE = ("simulator", "traces", "profiling", "benchmarks")
MAX_WORDS = 12
PHRASES = re.compile(r"in the mean\b|\bso many\b|\bnobody\b|\bat hand\b|\bfor ever\b|\"Let \w+ ", re.IGNORECASE)


def code_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def documents() -> list[Path]:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")]
    return [*pages, *(REPOSITORY / "notebooks").glob("*.ipynb"), *(REPOSITORY / "configs").rglob("*.yaml")]


@pytest.mark.parametrize("folder", CODE)
def test_first_lines_of_docstrings_have_at_most_a_dozen_words(folder: str) -> None:
    too_long = [
        f"{path.relative_to(REPOSITORY)}: {first}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node))
        if len((first := text.split("\n\n")[0]).split()) > MAX_WORDS
    ]
    assert not too_long


def test_no_phrase_reads_as_translated() -> None:
    assert not [
        f"{path.relative_to(REPOSITORY)}: {match[0]}"
        for path in [*code_files(), *documents()]
        for match in PHRASES.finditer(path.read_text())
    ]
