"""Messages about incidents: what they say, and how each receiver gets them."""
