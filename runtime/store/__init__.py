"""The durable plane: documents under compare-and-swap, behind one protocol with several implementations."""

from runtime.store.api import StoreOpenError

__all__ = ["StoreOpenError"]
