"""An extension of griffe, which reads the docstrings for the site."""

import griffe

from tools.site.field_lists import with_lists


class FieldLists(griffe.Extension):  # type: ignore[misc]  # griffe is not in the environment of mypy.
    """Rewrites the docstrings of all objects before they are rendered."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)
