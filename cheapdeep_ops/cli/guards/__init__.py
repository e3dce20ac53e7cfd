"""How commands reach a guard: by its store, or over HTTP."""
