"""The pictures of incidents: their data, how they are drawn, and how receivers get them."""
