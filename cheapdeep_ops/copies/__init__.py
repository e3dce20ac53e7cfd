"""Detects copies of a verdict: a JSON object in the user's text that a model should have written by itself.

Detects every form that a reader can recognise: JSON or Python syntax, escaped strings inside strings, HTML entities,
and fullwidth, lookalike or invisible characters. Does not detect forms that must be decoded first (base64, a
description in prose).
"""

from cheapdeep_ops.copies.pattern import Spelling, VerdictPattern

__all__ = ["Spelling", "VerdictPattern"]
