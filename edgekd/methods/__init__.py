"""Methods: a weighted sum of terms, each a file on this shelf."""

from edgekd.methods._method import Method, Shown, View
from edgekd.methods._term import Term
from edgekd.methods._weight import Weight

__all__ = ["Method", "Shown", "Term", "View", "Weight"]
