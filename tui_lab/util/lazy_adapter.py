"""A pydantic TypeAdapter that is built at its first use."""

import threading
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


class LazyAdapter(Generic[T]):
    """Validates values of a type. Building the validator takes milliseconds, which start-up should not wait for."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._adapter: TypeAdapter[T] | None = None

    def validate_json(self, text: str | bytes) -> T:
        """Return the value in JSON. Raises pydantic.ValidationError."""
        return self._built().validate_json(text)

    def validate_python(self, value: Any) -> T:
        """Return the value of Python objects as JSON gives them. Raises pydantic.ValidationError."""
        return self._built().validate_python(value)

    def _built(self) -> TypeAdapter[T]:
        if self._adapter is None:
            with self._lock:
                self._adapter = self._adapter or TypeAdapter(self._kind)
        return self._adapter
