"""The product against its simulators: what a newcomer watches."""
