"""Leaks that somebody plants into a gateway, and for each the nets that see it.

What each net can see at all is tested with the nets, in tests/proof, tests/providers and tests/audit. Here is the
gateway as a whole: it refuses to start, it refuses the user, or it reports, and no byte gets to the wrong user.
"""
