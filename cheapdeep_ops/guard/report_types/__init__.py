"""The values that reports return, with every key declared once: the HTTP API's schema comes from them.

Rates are shares from 0 to 1, and None if unknown. Intervals are 95%. Times are Unix times in seconds. Names that end in
`_usd` are US dollars, names that end in `_s` are seconds. A scope or route `*` is all routes together.
"""
