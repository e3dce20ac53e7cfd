"""The values that reports return, with every key declared once: the HTTP API's schema comes from them.

Rates are shares from 0 to 1 and None if unknown, intervals are 95%, names that end in `_usd` are US dollars, names
that end in `_s` seconds, times Unix time in seconds; a scope or route `*` is all routes together.
"""
