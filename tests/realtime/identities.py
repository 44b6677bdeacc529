"""Ids that try to be somebody else, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from app.realtime.identity import MAX_ID_BYTES, UserContext

FRAGMENTS = (
    *("user:", "user-session:", "session:", "request:", "no_user_context", "context_a_b", "extracted_alice", "alice"),
    *(":", "%", "%3A", "%253A", "|", "_", "/", "\\", ".", "-", "~", "+", " ", "'", '"', "{", "}", "\u00e9", "e\u0301"),
    *("\u202e", "\u2028", "\U0001f512", "\ufeff", "1", "None", "#"),
)


def is_id(text: str) -> bool:
    return 0 < len(text.encode()) <= MAX_ID_BYTES


def ids() -> st.SearchStrategy[str]:
    """Acceptable ids: pieces of keys, separators and escapes put together, and any text without control characters."""
    pieces = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join)
    texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
    return st.one_of(pieces, texts).filter(is_id)


def contexts() -> st.SearchStrategy[UserContext]:
    """Contexts of every kind."""
    some = st.none() | ids()
    return st.one_of(
        st.builds(UserContext, user_id=ids(), session_id=some, thread_id=some, request_id=some),
        st.builds(UserContext, session_id=ids(), thread_id=some, request_id=some),
        st.builds(UserContext, thread_id=ids(), request_id=ids()),
    )


def who(context: UserContext) -> tuple[str | None, ...]:
    """Who a context says this is, by the rule and without keys: user id, else the session, else thread and request."""
    if context.user_id is not None:
        return "user", context.user_id
    if context.session_id is not None:
        return "session", context.session_id
    return "request", context.thread_id, context.request_id


def same_user(a: UserContext, b: UserContext) -> bool:
    """Whether two contexts are one logical user."""
    return who(a) == who(b)
