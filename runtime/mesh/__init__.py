"""The full mesh of all servers: command plane, state plane, and the book of members (``api`` says what each offers)."""

from runtime.mesh.open import ZmqMesh, open_mesh

__all__ = ["ZmqMesh", "open_mesh"]
