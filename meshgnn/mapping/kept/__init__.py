"""What mappers said, kept: the journal, its newest state, and what may enter it."""

from meshgnn.mapping.kept.journal import Entry, Journal, read_journal
from meshgnn.mapping.kept.state import Stale, State

__all__ = ["Entry", "Journal", "Stale", "State", "read_journal"]
