"""Reader of text conversations, such as ShareGPT: each round is a request."""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa

from traces.readers.rows import Rows
from traces.readers.tables import ChooseColumns

CountTokens = Callable[[Sequence[str]], Sequence[int]]
# Names of the model in published files; messages of others (user, system, tool, ...) are part of the prompt.
_ASSISTANT = {"gpt", "chatgpt", "bing", "bard", "assistant"}
_MESSAGES = ("conversations", "items", "conversation", "messages")
_CHATS_PER_PART = 256
_PART_CHARACTERS = 1 << 22
_SEPARATOR = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Message:
    """A message of a conversation.

    Attributes:
        is_answer: Whether the model wrote it.
        text: The text, without a chat template.
    """

    is_answer: bool
    text: str


# Yields the messages of each conversation, or what is wrong with it, after its number.
Elements = Callable[[BinaryIO], Iterator[tuple[int, list[Message] | str]]]


def is_chat(content: Any) -> bool:
    """Return whether a JSON value has a list of messages."""
    return isinstance(content, dict) and any(isinstance(content.get(name), list) for name in _MESSAGES)


def chat_rows(
    elements: Elements, count_tokens: CountTokens, *, with_unanswered: bool = False
) -> Callable[[BinaryIO, ChooseColumns], Iterator[Rows]]:
    """Return a reader of conversations.

    The prompt of a request holds all messages before the answer, without the tokens of a chat template.

    Args:
        elements: Yields the conversations of a file.
        count_tokens: Returns the number of tokens of each text.
        with_unanswered: Whether a last message without an answer is a request, of unknown output length.
    """

    def rows(file: BinaryIO, choose_columns: ChooseColumns) -> Iterator[Rows]:
        names = choose_columns(["prompt_tokens", "output_tokens", "session"])
        numbered = elements(file)
        while part := list(islice(numbered, _CHATS_PER_PART)):
            chats = [(number, messages) for number, messages in part if not isinstance(messages, str)]
            unparsable = [(number, messages) for number, messages in part if isinstance(messages, str)]
            yield replace(_rounds(chats, count_tokens, names, with_unanswered), unparsable=unparsable)

    return rows


def lines(file: BinaryIO) -> Iterator[tuple[int, list[Message] | str]]:
    """Yield the conversations of a JSON lines file with their line numbers."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            element = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {error}"
        else:
            yield number, _messages(element)


def array(file: BinaryIO) -> Iterator[tuple[int, list[Message] | str]]:
    """Yield the conversations of a JSON array, numbered from 1."""
    return enumerate(map(_messages, _elements(file)), 1)


def _elements(file: BinaryIO) -> Iterator[Any]:
    """Yield the elements of a JSON array, read part by part."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        yield from _parse_elements(text)
    finally:
        text.detach()


def _parse_elements(text: TextIO) -> Iterator[Any]:
    decoder, at_end = json.JSONDecoder(), False
    part = text.read(_PART_CHARACTERS)
    position = part.index("[") + 1
    while True:
        position = _SEPARATOR.match(part, position).end()  # type: ignore[union-attr]
        if part.startswith("]", position):
            return
        try:
            element, position = decoder.raw_decode(part, position)
        except RecursionError as error:
            raise ValueError(f"is not complete JSON: {error}") from None
        except ValueError as error:
            if at_end:
                raise ValueError(f"is not complete JSON: {error}") from None
            rest = part[position:]
            more = text.read(max(_PART_CHARACTERS, len(rest)))
            part, position, at_end = rest + more, 0, not more
            continue
        yield element


def _messages(element: Any) -> list[Message] | str:
    """Return the messages of a conversation, or what is wrong with it."""
    entries = None
    if isinstance(element, dict):
        entries = next((element[name] for name in _MESSAGES if name in element), None)
    if not isinstance(entries, list):
        return f"must be an object with a list {' or '.join(_MESSAGES)}"
    messages = []
    for number, entry in enumerate(entries, 1):
        author = entry.get("from", entry.get("role")) if isinstance(entry, dict) else None
        text = entry.get("value", entry.get("content")) if isinstance(entry, dict) else None
        if not isinstance(author, str) or not isinstance(text, str):
            return f"message {number} must have strings from and value (or role and content)"
        messages.append(Message(author.lower() in _ASSISTANT, text))
    return messages


def _rounds(
    chats: Sequence[tuple[int, list[Message]]], count_tokens: CountTokens, names: Sequence[str], with_unanswered: bool
) -> Rows:
    """Return a row for each answer that follows a prompt."""
    texts = [message.text for _, messages in chats for message in messages]
    counts = iter(count_tokens(texts)) if texts else iter(())
    rows = [round_ for number, messages in chats for round_ in _rounds_of(number, messages, counts, with_unanswered)]
    prompts, outputs, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "prompt_tokens": pa.array(prompts, pa.int64()),
        "output_tokens": pa.array(outputs, pa.int64()),
        "session": pa.array(numbers, pa.int64()),
    }
    return Rows({name: columns[name] for name in names}, np.array(numbers, dtype=np.int64))


def _rounds_of(
    number: int, messages: Sequence[Message], counts: Iterator[int], with_unanswered: bool
) -> Iterator[tuple[int, int | None, int]]:
    """Yield prompt tokens, output tokens and the number of the conversation.

    Consecutive answers count as one. An empty answer makes a malformed row; an answer without a prompt becomes part of
    later prompts.
    """
    prompt: int = 0
    answer: int | None = None
    for message in messages:
        count = next(counts)
        if message.is_answer and (prompt or answer is not None):
            answer = (answer or 0) + count
            continue
        if answer is not None:
            yield prompt, answer, number
        prompt, answer = prompt + (answer or 0) + count, None
    if answer is not None or (with_unanswered and prompt):
        yield prompt, answer, number
