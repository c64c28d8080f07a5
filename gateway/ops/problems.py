"""Problem documents of the operators' interface: those of all HTTP here, and these."""

from gateway.problems import Problem
from runtime.mesh.api import MeshError, Refused

STATUS = {
    "no_such_target": 404,
    "last_of_its_role": 409,
    "not_drainable": 409,
    "no_supervisor": 409,
    "no_destination": 409,
    "no_owner": 409,
    "not_taken": 409,
    "too_many_readers": 503,
    "too_many_searches": 503,
    "search_unavailable": 503,
    "unreachable": 503,
}


def problem(code: str, detail: str = "", retry_after_s: int = 0) -> Problem:
    return Problem(code, detail, retry_after_s, STATUS.get(code, 0))


def of_mesh(error: MeshError, who: str, known: tuple[str, ...] = ()) -> Problem:
    """What a failed call means to the operator; ``known``: the refusals that are passed on as they are."""
    if isinstance(error, Refused) and error.code in (*known, "store_unavailable"):
        return problem(error.code, error.detail)
    if isinstance(error, Refused):
        return problem("internal", f"{who} answered {error.code}")
    return problem("unreachable", f"{who} does not answer", retry_after_s=1)
