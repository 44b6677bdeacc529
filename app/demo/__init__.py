"""The chat that a newcomer sees first: a page, a development sign-in and a small agent that computes.

Served only when the setting `demo` is on, which the production profile refuses.
"""
