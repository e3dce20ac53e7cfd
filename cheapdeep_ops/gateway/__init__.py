"""The Messages API over the router, for services in any language: they change their base URL."""
