"""A door: OpenID Connect providers, which sign people in for us."""
