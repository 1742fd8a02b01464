"""The model card: what an artifact is, what it was found to do, and what nobody measured."""

from __future__ import annotations

from edgekd.cards.card import NAME, card_of, write_card

__all__ = ["NAME", "card_of", "write_card"]
