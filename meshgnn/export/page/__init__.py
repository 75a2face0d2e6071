"""The page of a brain: one HTML file that opens from disk. The browser's part lies in web/, its bundle in assets/."""

from meshgnn.export.page.page import write_page

__all__ = ["write_page"]
