"""Textual 8.2.8: the toasts about a screenshot name no reason of a failure, and contain markup.

"Failed to save screenshot" is all that is said where the folder for downloads is missing, and an app that shows toasts
without markup shows its tags. Screenshots are saved in the current folder, as the documentation of `deliver_screenshot`
says, and the toasts are plain text with the path or the reason.
"""

import os

from textual import on
from textual.app import App
from textual.events import DeliveryComplete, DeliveryFailed


class PlainScreenshotToasts(App[None]):
    def deliver_screenshot(
        self, filename: str | None = None, path: str | None = None, time_format: str | None = None
    ) -> str | None:
        return super().deliver_screenshot(filename, path or os.getcwd(), time_format)

    @on(DeliveryComplete)
    def _screenshot_saved(self, event: DeliveryComplete) -> None:
        if event.name == "screenshot":
            event.prevent_default()
            self.notify(f"Saved screenshot to {event.path}" if event.path else "Saved screenshot")

    @on(DeliveryFailed)
    def _screenshot_failed(self, event: DeliveryFailed) -> None:
        if event.name == "screenshot":
            event.prevent_default()
            self.notify(f"Cannot save the screenshot: {event.exception}", severity="error")
