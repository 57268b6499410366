"""Reads conversations as text: a JSON array as ShareGPT was published, each round of a chat one request."""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa

from traces.readers.rows import Rows
from traces.readers.tables import Needed

Tokenise = Callable[[Sequence[str]], Sequence[int]]
# Who speaks, by the names in published files; everything else (system, tool, ...) is part of the prompt.
_ASSISTANT = {"gpt", "chatgpt", "bing", "bard", "assistant"}
_MESSAGES = ("conversations", "items", "conversation", "messages")
_AT_A_TIME = 256
_PART_CHARACTERS = 1 << 22
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        is_answer: Whether the model wrote it.
        text: What it says.
    """

    is_answer: bool
    text: str


def chat_rows(tokenise: Tokenise) -> Callable[[BinaryIO, Needed], Iterator[Rows]]:
    """Return the reader; a prompt holds all messages before the answer, without what a chat template would add.

    Args:
        tokenise: Returns the number of tokens of each text.
    """

    def rows(file: BinaryIO, needed: Needed) -> Iterator[Rows]:
        names = needed(["prompt_tokens", "output_tokens", "session"])
        elements = enumerate(_elements(file), 1)
        while numbered := list(islice(elements, _AT_A_TIME)):
            chats, broken = [], []
            for number, element in numbered:
                messages = _messages(element)
                if isinstance(messages, str):
                    broken.append((number, messages))
                else:
                    chats.append((number, messages))
            rounds = _rounds(chats, tokenise, names)
            yield replace(rounds, broken=broken)

    return rows


def _elements(file: BinaryIO) -> Iterator[Any]:
    """Yield the elements of a JSON array, which may be larger than memory."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        yield from _elements_of(text)
    finally:
        text.detach()


def _elements_of(text: TextIO) -> Iterator[Any]:
    decoder, ended = json.JSONDecoder(), False
    part = text.read(_PART_CHARACTERS)
    place = part.index("[") + 1
    while True:
        place = _BETWEEN.match(part, place).end()  # type: ignore[union-attr]
        if part.startswith("]", place):
            return
        try:
            element, place = decoder.raw_decode(part, place)
        except RecursionError as error:
            raise ValueError(f"is not whole JSON: {error}") from None
        except ValueError as error:
            if ended:
                raise ValueError(f"is not whole JSON: {error}") from None
            rest = part[place:]
            more = text.read(max(_PART_CHARACTERS, len(rest)))
            part, place, ended = rest + more, 0, not more
            continue
        yield element


def _messages(element: Any) -> list[Message] | str:
    """Return the messages of a conversation, or what is wrong with it."""
    found = next((element[name] for name in _MESSAGES if name in element), None) if isinstance(element, dict) else None
    if not isinstance(found, list):
        return f"must be an object with a list {' or '.join(_MESSAGES)}"
    messages = []
    for number, one in enumerate(found, 1):
        who = one.get("from", one.get("role")) if isinstance(one, dict) else None
        text = one.get("value", one.get("content")) if isinstance(one, dict) else None
        if not isinstance(who, str) or not isinstance(text, str):
            return f"message {number} must have a text from and a text value (or role and content)"
        messages.append(Message(who.lower() in _ASSISTANT, text))
    return messages


def _rounds(chats: Sequence[tuple[int, list[Message]]], tokenise: Tokenise, names: Sequence[str]) -> Rows:
    """Return one row for each answer that has something before it."""
    texts = [message.text for _, messages in chats for message in messages]
    counts = iter(tokenise(texts)) if texts else iter(())
    rows = list(chain.from_iterable(_rounds_of(number, messages, counts) for number, messages in chats))
    prompts, outputs, places = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "prompt_tokens": pa.array(prompts, pa.int64()),
        "output_tokens": pa.array(outputs, pa.int64()),
        "session": pa.array(places, pa.int64()),
    }
    return Rows({name: columns[name] for name in names}, np.array(places, dtype=np.int64))


def _rounds_of(number: int, messages: Sequence[Message], counts: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Yield prompt tokens, output tokens and the number of the conversation; answers in a row are one.

    An answer of no tokens is a malformed row; one that nothing is before is a part of later prompts.
    """
    history: int = 0
    answer: int | None = None
    for message in messages:
        count = next(counts)
        if message.is_answer and (history or answer is not None):
            answer = (answer or 0) + count
            continue
        if answer is not None:
            yield history, answer, number
        history, answer = history + (answer or 0) + count, None
    if answer is not None:
        yield history, answer, number
