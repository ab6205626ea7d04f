"""Turns of a conversation, for models that were trained on conversations, put into the model's own template.

The template is the one that the GGUF file carries, applied by llama.cpp, which knows the usual ones by their look and
runs no program code of the file.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

from ..types import Chat
from .decoder import Weights, llama_cpp

_MARKS = re.compile(r"[<>|\[\]{}]+")
"""What templates write their marks with: a caption must not be able to end a turn."""


class ChatTemplate:
    """The chat template of a model file."""

    def __init__(self, template: bytes) -> None:
        self._template = template

    @classmethod
    def of(cls, weights: Weights) -> ChatTemplate | None:
        """The template of the weights; None where they carry none, or one that llama.cpp does not know."""
        template = llama_cpp.llama_model_chat_template(weights.pointer, None)
        if not template:
            return None
        chat_template = cls(template)
        return chat_template if chat_template.render(Chat((("user", "a"),), "")) else None

    def render(self, chat: Chat) -> str:
        """The conversation as the model was trained to read it, up to the beginning of the answer; empty if unknown."""
        turns = [(role.encode(), _MARKS.sub(" ", text).encode()) for role, text in chat.turns]
        messages: Any = (llama_cpp.llama_chat_message * len(turns))(
            *(llama_cpp.llama_chat_message(role=role, content=text) for role, text in turns)
        )
        size = 2 * sum(len(role) + len(text) for role, text in turns) + 512
        while True:
            room = ctypes.create_string_buffer(size)
            needed = llama_cpp.llama_chat_apply_template(
                self._template, messages, len(turns), True, room, size
            )
            if needed <= size:
                break
            size = needed + 1
        return room.raw[:needed].decode("utf-8", errors="replace") + chat.answer if needed > 0 else ""
