"""The gateway itself: who a user is, their manager, its connections and streams.

Knows no web framework and no container.
"""
