"""The default model: the one that answers requests that name none. Knows names, but no models."""

from collections.abc import Set as AbstractSet


class DefaultModel:
    """The model in the settings, or the first by name among those that are ready.

    The choice does not change while the model is there, so adding a model never changes who
    answers. `reference` is the name, or `name/version` if the settings say so.
    """

    def __init__(self, configured: str | None) -> None:
        self.reference = configured
        self._is_configured = configured is not None

    @property
    def name(self) -> str | None:
        """Return the name without a version; None if there is no default model now."""
        return self.reference.partition("/")[0] if self.reference else None

    def choose(self, ready: AbstractSet[str], loading: AbstractSet[str]) -> None:
        """Choose again if the default model is gone, from the names of the models.

        A model is in `loading` while a version of it loads, for example after its device failed.
        """
        if not self._is_configured and self.reference not in ready | loading:
            self.reference = min(ready, default=None)
