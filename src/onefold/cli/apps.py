"""The command and its groups; the modules beside this one give them their commands."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Many identifiers, one profile: warehouse tables become customer profiles.")  # fmt: skip
source_app = typer.Typer(no_args_is_help=True, help="Warehouse sources.")
model_app = typer.Typer(no_args_is_help=True, help="SQL models.")
mapping_app = typer.Typer(no_args_is_help=True, help="Mappings of a destination.")
profile_app = typer.Typer(no_args_is_help=True, help="Read profiles.")
space_app = typer.Typer(no_args_is_help=True, help="Profile Spaces.")
runs_app = typer.Typer(invoke_without_command=True, help="What ran, and what was rejected.")
token_app = typer.Typer(no_args_is_help=True, help="Access tokens of the Profile API and the configuration API.")
user_app = typer.Typer(no_args_is_help=True, help="People who log in, and their roles.")
for name, group in {
    "source": source_app,
    "model": model_app,
    "mapping": mapping_app,
    "profile": profile_app,
    "runs": runs_app,
    "space": space_app,
    "token": token_app,
    "user": user_app,
}.items():
    app.add_typer(group, name=name)
