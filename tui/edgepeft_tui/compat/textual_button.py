"""A radio button with a sign of its own.

Written for textual 8.2. Overrides ``ToggleButton._button``, what the widget paints before its label: Textual
paints the same sign in another colour. A public way to give the sign would make this unnecessary.
"""

from __future__ import annotations

from textual.content import Content
from textual.widgets import RadioButton


class SignedButton(RadioButton):
    """A RadioButton that paints ``sign()`` before its label."""

    def sign(self) -> str:
        """The sign as it is now."""
        return self.BUTTON_INNER

    @property
    def _button(self) -> Content:
        return Content.assemble((self.sign(), self.get_visual_style("toggle--button")))
