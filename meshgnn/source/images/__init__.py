"""Section images of every format behind one socket."""

from meshgnn.source.images.formats import SUFFIXES, is_image, open_image, suffix_of
from meshgnn.source.images.key import WHOLE_BYTES, contents, image_hash

__all__ = ["SUFFIXES", "WHOLE_BYTES", "contents", "image_hash", "is_image", "open_image", "suffix_of"]
