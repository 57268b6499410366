"""Words of shell commands: continuations, quotes, variables, redirections."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from simulator.config import ConfigError

# Outside of quotes, spaces: continuations, comments and redirections. First what stays, so that `#` and `>` in it do.
_SKIPPED = re.compile(
    r"""(?P<kept>'[^']*' | "(?:\\.|[^"\\])*" | \\[^\s])
    | [ \t]*\\[ \t]*\r?\n
    | (?<!\S)\#[^\n]*
    | (?:(?<!\S)\d+|&)?>>?(?:&\d?-?|[ \t]*(?:'[^']*'|"[^"]*"|[^\s;&|]+))""",
    re.VERBOSE | re.DOTALL,
)
_CONTINUED = re.compile(r"\\\r?\n")
_NEWLINE = "\0"  # stands for a newline within quotes
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
# $NAME, ${NAME}, ${NAME:-default}, ${NAME:?message}, and $(NAME) of Kubernetes.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*)|:?\?[^}]*)?\}|\((\w+)\))")
_SEPARATORS = frozenset(";&|")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a script.

    Raises:
        ConfigError: A quote is not closed.
    """
    for line in _SKIPPED.sub(_kept, text).split("\n"):
        lexer = shlex.shlex(line.replace(_NEWLINE, "\n"), posix=True, punctuation_chars="".join(_SEPARATORS))
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        try:
            for word in lexer:
                if word and _SEPARATORS.issuperset(word):
                    yield words
                    words = []
                else:
                    words.append(word)
        except ValueError as error:
            raise ConfigError(f"{' '.join(line.split())[:60]}: {str(error).lower()}") from None
        yield words


def _kept(match: re.Match[str]) -> str:
    """Return what stays of a match, without newlines."""
    kept = match["kept"] or " "
    if kept.startswith('"'):
        kept = _CONTINUED.sub("", kept)
    return kept.replace("\n", _NEWLINE)


def split_words(text: str) -> list[str]:
    """Return the words of one command.

    Raises:
        ConfigError: A quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{' '.join(text.split())[:60]}: {str(error).lower()}") from None


def assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables set before a command, and its words."""
    variables: dict[str, str] = {}
    rest = list(words)
    while rest and (rest[0] in ("export", "env") or _ASSIGNMENT.fullmatch(rest[0])):
        match = _ASSIGNMENT.fullmatch(rest.pop(0))
        if match is not None:
            variables[match[1]] = match[2]
    return variables, rest


def substituted(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Replace variables by their values.

    A word that is one variable may become several words.

    Raises:
        ConfigError: A variable has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match[1] or match[2] or match[4], match[3])
        if value is None:
            raise ConfigError(f"the command line has the variable {match[0]}, whose value is not known: write it out")
        return value

    result: list[str] = []
    for word in words:
        text = _VARIABLE.sub(value_of, word)
        result += split_words(text) if _VARIABLE.fullmatch(word) else [text]
    return result


def with_defaults(text: str) -> str:
    """Replace variables that have a default by it; the others stay."""
    return _VARIABLE.sub(lambda match: match[0] if match[3] is None else match[3], text)
