"""Groups of commands, as this project shows and ends them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from uvlm.errors import Interrupted


class Commands(TyperGroup):
    """Lists its commands in whole sentences, and ends with the exit codes of this project."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one row per command; typer would cut its sentence at the end of the line."""
        rows = [(name, command.get_short_help_str(999)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C ends it as it ends a stage."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            name = ctx.invoked_subcommand or "uvlm"
            raise Interrupted(name, "interrupted", "run the same command again") from None
