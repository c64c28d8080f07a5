"""The code's own shape: what design and style ask of every file, so that nobody has to look for it in review."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICES = ("gateway", "gameserver", "login", "broker")
PACKAGES = ("world", "runtime", *SERVICES, "cluster")
MAY_IMPORT = {
    "world": {"world"},
    "runtime": {"world", "runtime"},
    **{service: {"world", "runtime", service} for service in SERVICES},
    "cluster": set(PACKAGES),
}
FUNCTION_LINES, MODULE_LINES = 70, 500

# world/ is handed time, chance, text and messages: it reads no clock, opens nothing, chooses nothing unseeded
WORLD_LIBRARIES = {"numpy", "msgspec", "orjson"}
IMPURE_MODULES = {
    *("asyncio", "socket", "ssl", "selectors", "select", "threading", "multiprocessing", "subprocess", "concurrent"),
    *("time", "datetime", "secrets", "uuid", "tempfile", "shutil", "signal", "http", "urllib", "logging", "os", "sys"),
}
IMPURE_CALLS = {"open", "input", "print", "breakpoint", "exec", "eval", "id", "hash"}
SEEDED = {"Random", "Generator", "PCG64", "Philox", "SeedSequence"}  # of random and numpy.random
SIMULATED = ("gateway", "gameserver", "login", "broker")  # time there comes from the clock that was injected


def modules(*packages: str) -> Iterator[tuple[str, ast.Module, str]]:
    """(path from the root, syntax tree, text) of every module."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            yield str(path.relative_to(ROOT)), ast.parse(text), text


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.lineno, node.module or ""


def dotted(node: ast.expr) -> str:
    """``asyncio.create_task`` for that expression, "" for what is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else node.attr
    return ""


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def is_number(node: ast.expr | None) -> bool:
    """A literal number other than 0, also as -1 or 3 * 60 or 5 / 1_000."""
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float))
        and not isinstance(node.value, bool)
        and node.value != 0
    )


# -- layers ----------------------------------------------------------------------------------------------------------
def test_layers_import_downwards_only() -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for package, allowed in MAY_IMPORT.items()
        for path, tree, _text in modules(package)
        for line, name in imported(tree)
        if (top := name.split(".")[0]) in (*PACKAGES, "tests", "web_client") and top not in allowed
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_game_servers_and_rules_cannot_search_the_store() -> None:
    """The live path knows keys: a search is an operator's, and slow. Neither by import nor by message; logins and
    brokers have no business with it either."""
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree, _text in modules("world", "gameserver", "login", "broker")
        for line, name in imported(tree)
        if name.startswith("runtime.store.search")
    ]
    wrong += [
        f"{path} speaks of searches"
        for path, _tree, text in modules("gameserver", "login", "broker", "world/rules")
        if "StoreSearch" in text
    ]
    reach = {path for path, tree, _text in modules("runtime") for _, name in imported(tree) if "store.search" in name}
    assert not wrong, "\n" + "\n".join(wrong)
    assert reach <= {
        "runtime/store/app.py",
        *(f"runtime/store/search{part}.py" for part in ("_open", "_sqlite", "_n1ql")),
    }


def test_the_world_is_pure() -> None:
    wrong = []
    for path, tree, _text in modules("world"):
        for line, name in imported(tree):
            top = name.split(".")[0]
            known = top in WORLD_LIBRARIES or top == "world" or top in sys.stdlib_module_names
            if top in IMPURE_MODULES or not known:
                wrong.append(f"{path}:{line} imports {name}")
        for call, name in calls(tree):
            if name in IMPURE_CALLS or unseeded(name, call):
                wrong.append(f"{path}:{call.lineno} calls {name}")
        wrong += [f"{path}:{n.lineno} is async" for n in ast.walk(tree) if isinstance(n, ast.stmt) and waits(n)]
    assert not wrong, "\n" + "\n".join(wrong)


def waits(node: ast.AST) -> bool:
    """``async for`` and ``async with``, but for ``transaction(…)``, whose waiting is its runtime's."""
    if not isinstance(node, ast.AsyncWith):
        return isinstance(node, ast.AsyncFor)
    contexts = [item.context_expr for item in node.items]
    return not all(isinstance(c, ast.Call) and dotted(c.func) == "transaction" for c in contexts)


def unseeded(name: str, call: ast.Call) -> bool:
    """``random.random()``, ``np.random.rand()``, ``random.Random()`` without a seed, ``default_rng()`` likewise."""
    parts = name.split(".")
    last = parts[-1]
    if last in ("Random", "default_rng"):
        return not call.args and not call.keywords
    return parts[0] == "random" or (len(parts) > 2 and parts[-2] == "random" and last not in SEEDED)


def test_services_take_time_from_the_injected_clock() -> None:
    forbidden = {"time.time", "time.monotonic", "time.perf_counter", "time.time_ns", "time.sleep", "datetime.now"}
    wrong = [
        f"{path}:{call.lineno} calls {name}"
        for path, tree, _text in modules(*SIMULATED)
        for call, name in calls(tree)
        if name in forbidden or name.endswith("datetime.now") or (name.startswith("random.") and unseeded(name, call))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


# -- size ------------------------------------------------------------------------------------------------------------
def test_functions_and_modules_stay_small() -> None:
    wrong = []
    for path, tree, text in modules(*PACKAGES, "tests"):
        lines = text.count("\n")
        if lines > MODULE_LINES:
            wrong.append(f"{path} has {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n" + "\n".join(wrong)


def test_there_are_no_leftovers() -> None:
    """Unfinished work has no place in the tree; a name ending in Manager is a missing noun."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError|class \w+Manager\b")
    wrong = [
        f"{path}:{n} {line.strip()}"
        for path, _tree, text in modules(*PACKAGES)
        for n, line in enumerate(text.splitlines(), 1)
        if marks.search(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


# -- tasks and cancellation --------------------------------------------------------------------------------------------
def test_every_task_belongs_to_a_group() -> None:
    wrong = [
        f"{path}:{call.lineno} calls {name}"
        for path, tree, _text in modules(*PACKAGES)
        for call, name in calls(tree)
        if name.split(".")[-1] == "ensure_future"
        or name in ("asyncio.create_task", "create_task", "loop.create_task")
        or name.endswith("get_running_loop.create_task")
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_cancellation_is_never_swallowed() -> None:
    """Who catches CancelledError or BaseException raises again (or, the supervisor only, uncancels its own)."""
    wrong = []
    for path, tree, text in modules(*PACKAGES):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            if "CancelledError" not in caught and "BaseException" not in caught:
                continue
            body = ast.get_source_segment(text, node) or ""
            if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)) and "uncancel" not in body:
                wrong.append(f"{path}:{node.lineno} swallows {caught}")
        for call, name in calls(tree):
            if name.endswith("suppress") and any("CancelledError" in ast.unparse(arg) for arg in call.args):
                wrong.append(f"{path}:{call.lineno} suppresses CancelledError")
    assert not wrong, "\n" + "\n".join(wrong)


# -- bounds ------------------------------------------------------------------------------------------------------------
def test_every_queue_is_bounded_by_a_named_limit() -> None:
    wrong = []
    for path, tree, _text in modules(*PACKAGES):
        for call, name in calls(tree):
            last = name.split(".")[-1]
            if last == "deque":
                bound = keyword(call, "maxlen") or (call.args[1] if len(call.args) > 1 else None)
            elif last in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"):
                bound = keyword(call, "maxsize") or (call.args[0] if call.args else None)
            else:
                continue
            if bound is None or is_number(bound) or (isinstance(bound, ast.Constant) and not bound.value):
                wrong.append(f"{path}:{call.lineno} {ast.unparse(call)}")
    assert not wrong, "\n" + "\n".join(wrong)


BOUND_ARGUMENTS = frozenset(
    {
        *("timeout", "timeout_s", "timeout_ms", "deadline", "deadline_ms", "deadline_s", "maxsize", "maxlen", "limit"),
        *("max_size", "max_connections", "maxBytes", "backupCount", "backlog", "linger", "sndhwm", "rcvhwm"),
    }
)
BOUND_CALLS = frozenset({"asyncio.sleep", "asyncio.timeout", "asyncio.wait_for", "time.sleep", "call_later"})


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def test_every_bound_and_timeout_is_named_in_limits() -> None:
    """No literal number where a bound or a time is asked for: it is a constant of world/limits.py."""
    wrong = []
    for path, tree, _text in modules(*PACKAGES):
        if path == "world/limits.py":
            continue
        for call, name in calls(tree):
            given = [k.value for k in call.keywords if k.arg in BOUND_ARGUMENTS]
            if any(name.endswith(bound) for bound in BOUND_CALLS) and call.args:
                given.append(call.args[1] if name.endswith("wait_for") and len(call.args) > 1 else call.args[0])
            wrong += [f"{path}:{call.lineno} {ast.unparse(call)[:80]}" for value in given if is_number(value)]
    assert not wrong, "\n" + "\n".join(wrong)


def limits() -> list[str]:
    """The names of all constants in world/limits.py, as often as they stand there."""
    return re.findall(r"^([A-Z][A-Z0-9_]*): Final\b", (ROOT / "world/limits.py").read_text(), re.MULTILINE)


# the last word of a name is its unit; a plain count is named by what it counts, a plural
UNITS = frozenset({"MS", "S", "M", "BYTES", "M3"})
VERSIONS = frozenset(
    {
        "FORMAT",
        "FORMAT_MIN",
        "PROTOCOL_MIN",
        "PROTOCOL_MAX",
        "MESH_PROTOCOL_MIN",
        "MESH_PROTOCOL_MAX",
        "MESH_PROTOCOL_BATCHES",
    }
)
FACTORS = frozenset({"SPEED_TOLERANCE", "STORE_COUNTER_LIMIT"}) | VERSIONS  # no unit


def test_names_of_limits_end_with_their_unit() -> None:
    names = limits()
    assert len(names) > 100
    assert len(set(names)) == len(names)
    wrong = [
        name
        for name in names
        if name not in FACTORS
        and (last := name.rsplit("_", 1)[-1]) not in UNITS
        and not last.endswith("S")
        and not any(word.endswith("S") and len(word) > 2 for word in name.split("_"))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_limit_is_used() -> None:
    text = "\n".join(text for path, _tree, text in modules(*PACKAGES, "tests") if path != "world/limits.py")
    words = set(re.findall(r"[A-Z][A-Z0-9_]+", text))
    assert [name for name in limits() if name not in words] == []


# -- the tests themselves ------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder", sorted({p.parent for p in (ROOT / "tests").rglob("*.py")}), ids=lambda p: p.name)
def test_every_test_folder_is_a_package(folder: Path) -> None:
    """Otherwise a folder ``tests/…/world`` shadows the real ``world``."""
    assert (folder / "__init__.py").exists()
