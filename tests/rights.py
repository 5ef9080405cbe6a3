"""Whether permissions hold for who runs the tests: not for root, unless its rights are taken away as `.ci/run` does."""

import os
import tempfile

import pytest

__all__ = ["needs_permissions"]


def _does_what_is_forbidden() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0)
        try:
            os.listdir(folder)
        except PermissionError:
            return False
        finally:
            os.chmod(folder, 0o700)
    return True


needs_permissions = pytest.mark.skipif(_does_what_is_forbidden(), reason="root may read and write everything")
