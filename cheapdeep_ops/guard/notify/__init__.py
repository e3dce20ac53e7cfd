"""Messages about incidents: their text, and their delivery to each receiver."""
