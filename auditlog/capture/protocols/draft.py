"""Answers while they are put together, from the pieces of a stream or from one body."""

from collections.abc import Hashable

from auditlog.capture.protocols.values import short_text, text_of
from auditlog.capture.reading import MAX_TEXT, Answer, ToolCall

__all__ = ["MAX_ANSWERS", "MAX_TOOLS", "Draft", "Drafts", "ToolDraft"]

MAX_ANSWERS = 1024
"""Answers that are put together; what more of them say is left out."""
MAX_TOOLS = 1024
"""Likewise calls to tools in one answer."""


class ToolDraft:
    """A call to a tool."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []
        """Parts of the JSON text."""

    def call(self) -> ToolCall:
        """Return it as far as it was sent."""
        return ToolCall(
            id=short_text(self.id),
            name=short_text(self.name),
            arguments=text_of(self.arguments, MAX_TEXT),
        )


class Draft:
    """One answer: append parts to its lists, set the rest."""

    __slots__ = (
        "_by_key",
        "_tools",
        "finish_reason",
        "partial",
        "reasoning",
        "refusal",
        "role",
        "text",
    )

    def __init__(self) -> None:
        self.role: str | None = None
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.finish_reason: str | None = None
        self.partial = False
        """Whether calls to tools were left out."""
        self._tools: list[ToolDraft] = []
        self._by_key: dict[Hashable, ToolDraft] = {}

    def tool(self, key: Hashable) -> ToolDraft:
        """Return the call that a protocol knows by `key`; a new one the first time."""
        return self._by_key.get(key) or self.new_tool(key)

    def new_tool(self, key: Hashable) -> ToolDraft:
        """Return a new call, known by `key` from now on."""
        new = ToolDraft()
        if len(self._tools) < MAX_TOOLS:
            self._by_key[key] = new
            self._tools.append(new)
        else:
            self.partial = True
        return new

    @property
    def oversized(self) -> bool:
        """Whether a text is longer than `MAX_TEXT`, so that its end is left out."""
        texts = [self.text, self.reasoning, self.refusal]
        texts += [tool.arguments for tool in self._tools]
        return any(sum(map(len, parts)) > MAX_TEXT for parts in texts if parts)

    def answer(self, index: int) -> Answer:
        """Return it as far as it was sent."""
        return Answer(
            index=index,
            role=short_text(self.role),
            text=text_of(self.text, MAX_TEXT),
            reasoning=text_of(self.reasoning, MAX_TEXT),
            refusal=text_of(self.refusal, MAX_TEXT),
            tool_calls=[tool.call() for tool in self._tools],
            finish_reason=short_text(self.finish_reason),
        )


class Drafts:
    """The answers of one exchange, by index."""

    def __init__(self) -> None:
        self._drafts: dict[int, Draft] = {}
        self._partial = False

    def at(self, index: int) -> Draft:
        """Return the answer of an index; a new one the first time."""
        found = self._drafts.get(index)
        if found is None:
            found = Draft()
            if len(self._drafts) < MAX_ANSWERS:
                self._drafts[index] = found
            else:
                self._partial = True
        return found

    @property
    def partial(self) -> bool:
        """Whether anything is left out of what `answers` returns."""
        drafts = self._drafts.values()
        return self._partial or any(one.partial or one.oversized for one in drafts)

    def answers(self) -> list[Answer]:
        """Return them in the order of their indices."""
        return [draft.answer(index) for index, draft in sorted(self._drafts.items())]
