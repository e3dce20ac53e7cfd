"""Reports as text, HTML and SVG."""
