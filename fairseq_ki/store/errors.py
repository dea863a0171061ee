"""What can be wrong with a store. All are ValueErrors, so that callers may catch them as such."""


class StoreError(ValueError):
    """Base of every error the store raises about a store, its settings or its use."""


class UnfinishedError(StoreError):
    """The directory holds no manifest.json: its capture has not finished (or never began)."""


class FinishedError(StoreError):
    """A capture was asked to write into a store that is finished."""


class MismatchError(StoreError):
    """A setting, a fingerprint or a sample differs from what the store was captured with."""


class WriteError(StoreError):
    """A file of the store could not be written, since the disk is full."""


class DamageError(StoreError):
    """A file of the store is missing, truncated, altered, or was never a valid part of it."""
