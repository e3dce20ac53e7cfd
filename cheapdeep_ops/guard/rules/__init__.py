"""The kinds of rules: what each measures, when its alert fires, and the text of its messages."""
