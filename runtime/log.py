"""Logs: JSON lines into a rotating file where there is a supervisor, a human console on stderr otherwise.

Stdout belongs to the ready line alone. Libraries that use ``logging`` (uvicorn) come out in the same shape.
"""

import logging
import logging.handlers
import sys
from typing import Any

from runtime.leave_out import leave_out
from runtime.settings import Settings
from world.limits import LOG_FILE_BYTES, LOG_FILES

with leave_out("rich"):  # only for the colours of tracebacks, and a sixth of what a process needs to start
    import structlog
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Log = FilteringBoundLogger
Event = EventDict  # one thing that was logged

_LEVEL = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(settings: Settings, role: str, node_id: str) -> Log:
    """Set up this process's logging; call once, from ``runtime.service.run``. Raises OSError (unwritable log file)."""
    stamp: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _file_handler(settings, stamp) if settings.log_file else _console_handler(stamp)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVEL[settings.log_level])
    structlog.configure(
        processors=[*stamp, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVEL[settings.log_level]),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger("projectk", role=role, id=node_id)
    return log


def _file_handler(settings: Settings, stamp: list[Any]) -> logging.Handler:
    assert settings.log_file is not None
    settings.log_file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        settings.log_file, maxBytes=LOG_FILE_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    final: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=stamp, processors=final))
    return handler


def _console_handler(stamp: list[Any]) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    final: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=stamp, processors=final))
    return handler


def plain_log(role: str, node_id: str, level: str = "warning", lines: list[EventDict] | None = None) -> Log:
    """A logger without time, threads or global state, for tests and the simulation; ``lines`` collects what is said
    (each event as a dictionary), otherwise it goes to stderr."""

    def collect(_logger: WrappedLogger, method: str, event: EventDict) -> str:
        if lines is not None:
            lines.append({"level": method, **event})
            raise structlog.DropEvent
        return f"{method}: {event}"

    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.format_exc_info, collect],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVEL[level]),
        role=role,
        id=node_id,
    )
    return log
