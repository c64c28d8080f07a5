"""What a broker pushes, and when: pure. The book itself, its merging and its verdicts are the mesh's (every member has
one); a broker is the member with a known address that tells all others at once when the book changes.
"""

from collections import Counter

from world.messages import BookPage, Member

_Told = tuple[tuple[tuple[str | int, ...], ...], tuple[tuple[str, int], ...]]


def _said(page: BookPage) -> _Told:
    """What of a page is worth a push: who is there, where, in which state; loads travel with heartbeats."""
    members = sorted((m.id, m.generation, m.role, m.command, m.state, m.http, m.status) for m in page.members)
    return tuple(members), tuple(sorted(page.dead))


class Registry:
    """Compares the book with what was pushed last."""

    def __init__(self) -> None:
        self._told: _Told = ((), ())
        self.pushes = 0

    def due(self, page: BookPage) -> bool:
        """Does this page say anything that the last push did not? If so it counts as pushed."""
        said = _said(page)
        if said == self._told:
            return False
        self._told = said
        self.pushes += 1
        return True

    @staticmethod
    def by_role(members: list[Member]) -> dict[str, int]:
        """Number of members per role."""
        return dict(Counter(m.role for m in members))
