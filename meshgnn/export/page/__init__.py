"""The page of a brain: one HTML file that opens from disk. The browser's part lies in web/, its bundle in assets/."""

from meshgnn.export.page.page import page_html, write_page

__all__ = ["page_html", "write_page"]
