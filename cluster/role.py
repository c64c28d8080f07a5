"""One role as this process: ``python -m cluster.role gameserver`` with all settings in PROJECTK_ variables.

What the supervisor starts; ``projectk gameserver …`` ends up in ``run_role`` too.
"""

import importlib
import sys

from runtime.service import EXIT_REFUSED, run
from runtime.settings import Settings, SettingsError, read_settings
from runtime.store import StoreOpenError

APPS = {
    "broker": "broker.app",
    "store": "runtime.store.app",
    "login": "login.app",
    "gateway": "gateway.app",
    "gameserver": "gameserver.app",
}


def run_role(role: str, settings: Settings) -> int:
    """Run it until it stops; the process's exit code."""
    start = importlib.import_module(APPS[role]).start
    return run(role, settings, start, refused=(StoreOpenError,))


def main() -> int:
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"projectk: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return run_role(sys.argv[1], settings)


if __name__ == "__main__":
    sys.exit(main())
