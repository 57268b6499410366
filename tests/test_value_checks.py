"""A value that is not allowed gives one line that names it, what is allowed and what it is."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from traces.shared.json_file import read_json, reading
from traces.shared.value_checks import choice, each, flag, instance, integer, mapping, number, positive, sequence, text

NOT_NUMBERS = ["1", None, True, nan, [1], 1j]


@pytest.mark.parametrize("value", [*NOT_NUMBERS, inf, -inf, -0.1, 10**400])
def test_what_is_no_number_within_limits_is_refused(value: Any) -> None:
    for check in (lambda: number("x", value, 0, 9), lambda: positive("x", value), lambda: integer("x", value, 0, 9)):
        with pytest.raises(ValueError, match=r"^x must be ") as error:
            check()
        assert str(error.value).endswith(f"got {value!r}")


@pytest.mark.parametrize("value", [*NOT_NUMBERS, inf, 10**400])
def test_a_number_without_a_largest_one_is_finite(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^x must be a finite number of at least 0, got "):
        number("x", value, 0)


@pytest.mark.parametrize(
    ("excluding", "refused", "allowed"),
    [
        ("", [-0.1, 1.1], "a number from 0 to 1"),
        ("low", [0, 1.1], "a number above 0 and at most 1"),
        ("high", [-0.1, 1], "a number of at least 0 and below 1"),
        ("both", [0, 1], "a number above 0 and below 1"),
    ],
)
def test_limits_may_be_excluded(excluding: str, refused: list[float], allowed: str) -> None:
    number("x", 0.5, 0, 1, excluding=excluding)
    for value in refused:
        with pytest.raises(ValueError, match=rf"^x must be {allowed}, got {value}$"):
            number("x", value, 0, 1, excluding=excluding)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: integer("x", 1.0, 0), "x must be an integer of at least 0, got 1.0"),
        (lambda: integer("x", 7, 0, 5, optional=True), "x must be an integer from 0 to 5 or null, got 7"),
        (lambda: text("x", ""), "x must be a text, got ''"),
        (lambda: text("x", 3, "the path of a file", optional=True), "x must be the path of a file or null, got 3"),
        (lambda: flag("x", 1), "x must be true or false, got 1"),
        (lambda: flag("x", "no", optional=True), "x must be true, false or null, got 'no'"),
        (lambda: choice("x", ["a"], ("a", "b")), "x must be one of a, b; got ['a']"),
        (lambda: instance("x", 3, str, "a word"), "x must be a word, got 3"),
        (lambda: sequence("x", "abc", "a list of words", text), "x must be a list of words, got 'abc'"),
        (lambda: sequence("x", [1], "a pair", least=2, most=2), "x must be a pair, got [1]"),
        (lambda: sequence("x", [1, True], "numbers", integer, 0), "x[1] must be an integer of at least 0, got True"),
        (lambda: mapping("x", {"a": nan}, "rates", number, 0), "x.a must be a finite number of at least 0, got nan"),
        (lambda: mapping("x", {}, "rates", number, 0, least=1), "x must be rates, got {}"),
    ],
)
def test_messages_name_the_value_what_is_allowed_and_what_it_is(check: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=r"^x") as error:
        check()
    assert str(error.value) == message


def test_null_is_allowed_where_it_is_said() -> None:
    number("x", None, 0, 1, optional=True)
    integer("x", None, 0, optional=True)
    text("x", None, optional=True)
    flag("x", None, optional=True)
    instance("x", None, str, "a word", optional=True)
    sequence("x", None, "a list", integer, 0, optional=True)
    mapping("x", None, "a mapping", integer, 0, optional=True)


def test_attributes_are_checked_alike() -> None:
    @dataclass
    class Sizes:
        width: int = 3
        height: int = 0

    each(integer, Sizes(), ("width",), 1)
    with pytest.raises(ValueError, match=r"^height must be an integer of at least 1, got 0$"):
        each(integer, Sizes(), vars(Sizes()), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1}', "it has no b"),
        (b"[1]", "list indices must be integers or slices, not str"),
        (b"{", "it is not JSON: Expecting property name"),
        (b"\xff", "it is not UTF-8 text"),
    ],
)
def test_errors_of_files_name_them(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^key: ") as error, reading(path, "a box", "key: "):
        read_json(path)["b"]
    assert str(error.value).startswith(f"key: {path} is not a box: {reason}")
    with pytest.raises(ValueError, match=r"^cannot read none: No such file"), reading("none", "a box"):
        read_json(tmp_path / "none")
