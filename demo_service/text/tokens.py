"""A tokenizer whose tokens are words, and bytes where it does not know the word.

A word takes the space before it along, so that tokens in a row are the text again::

    "The loan costs €9." -> "The" " loan" " costs" " €" "9" "."

Any text can be encoded, and decoding gives it back; what is not in the vocabulary costs
one token a byte.
"""

import re
from collections.abc import Iterable, Sequence

__all__ = ["END", "Tokenizer"]

END = 0
"""Token that ends an answer; it has no text."""
_FIRST_BYTE = 1
_FIRST_WORD = _FIRST_BYTE + 256
_WORD = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\w\s]|.", re.DOTALL)


class Tokenizer:
    """Text to tokens and back; a token is a number from 0, below `size`."""

    def __init__(self, words: Iterable[str]) -> None:
        """Take the vocabulary, in order: words as they stand in a text."""
        self.words = tuple(words)
        self._tokens = {
            word: _FIRST_WORD + place for place, word in enumerate(self.words)
        }

    @classmethod
    def train(cls, texts: Iterable[str]) -> "Tokenizer":
        """Learn every word of some texts."""
        return cls(sorted({word for text in texts for word in _WORD.findall(text)}))

    @property
    def size(self) -> int:
        """How many tokens there are, with those of bytes and of the end."""
        return _FIRST_WORD + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; half a surrogate pair becomes a ``?``."""
        return [token for word in _WORD.findall(text) for token in self._spell(word)]

    def _spell(self, word: str) -> Sequence[int]:
        known = self._tokens.get(word)
        if known is not None:
            return (known,)
        return [_FIRST_BYTE + byte for byte in word.encode("utf-8", "replace")]

    def decode(self, token: int) -> bytes:
        """Return the text of a token, as UTF-8, or a byte of it."""
        if token >= _FIRST_WORD:
            return self.words[token - _FIRST_WORD].encode()
        return b"" if token == END else bytes([token - _FIRST_BYTE])
