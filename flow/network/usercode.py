"""A function of the user's, FILE.py:NAME: a metric, or what makes inputs of raw samples. The file is code that runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flow.errors import FlowError, first_line
from flow.files import sha256


@dataclass(frozen=True)
class UserFunction:
    """The function `name` of the Python file `file`, which is run when the function is first called.

    As if it were run by Python itself, it can import the files beside it. What it prints goes to stderr.
    """

    file: Path
    name: str

    @classmethod
    def of(cls, text: str, option: str) -> UserFunction:
        """The function that FILE.py:NAME names. FlowError if it is written otherwise, or there is no such file."""
        file, _, name = text.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise FlowError(f"a function is given as FILE.py:NAME, but it is '{text}'; change {option}")
        if not Path(file).is_file():
            raise FlowError(f"the function '{name}' must be in a Python file, but there is no file '{file}'; "
                            f"change {option}")  # fmt: skip
        return cls(Path(file), name)

    def __str__(self) -> str:
        return f"{self.file.name}:{self.name}"

    @property
    def record(self) -> dict[str, str]:
        """The function as JSON values: other code is another record."""
        return {"function": str(self), "sha256": sha256(self.file)}

    def __call__(self, *arguments: Any, place: str = "") -> Any:
        """What the function returns. FlowError, with its own error and line, if it or its file fails.

        `place` says for messages what it is called for.
        """
        function = self._function
        with self._running(f" for '{place}'" if place else ""):
            return function(*arguments)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        name = f"_of_the_user_{sha256(self.file)[:16]}"
        specification = importlib.util.spec_from_file_location(name, self.file)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # dataclasses and pickles look their module up
        with self._running():
            specification.loader.exec_module(module)
        found: Callable[..., Any] | None = getattr(module, self.name, None)
        if not callable(found):
            there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise FlowError(
                f"'{self.file}' must have the function '{self.name}', but it has {', '.join(there) or 'none'}; "
                "change the name after the colon"
            )
        return found

    @contextlib.contextmanager
    def _running(self, what: str = "") -> Iterator[None]:
        folder = str(self.file.resolve().parent)
        sys.path.insert(0, folder)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:
            raise FlowError(f"the function '{self.name}' of '{self.file}' fails{self._line(error)}{what}: "
                            f"{type(error).__name__}: {first_line(error)}; mend it") from error  # fmt: skip
        finally:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)

    def _line(self, error: BaseException) -> str:
        """The last line of the file that the error came through, in words."""
        own = os.path.abspath(self.file)  # as Python names it in frames
        if isinstance(error, SyntaxError) and error.filename == own:
            return f" in line {error.lineno}"
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
        return f" in line {lines[-1]}" if lines else ""
