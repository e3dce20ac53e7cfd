"""How many rows the transactions of a store change."""

from contextlib import contextmanager

from sqlalchemy import event


@contextmanager
def most_rows(store):
    """The number of rows that each transaction changes, while the context lasts."""
    counts = []

    def begin(_connection):
        counts.append(0)

    def note(_connection, cursor, statement, _parameters, _context, _many):
        if not statement.startswith(("BEGIN", "SELECT")):
            counts[-1] += max(cursor.rowcount, 0)

    event.listen(store.engine, "begin", begin)
    event.listen(store.engine, "after_cursor_execute", note)
    try:
        yield counts
    finally:
        event.remove(store.engine, "begin", begin)
        event.remove(store.engine, "after_cursor_execute", note)
