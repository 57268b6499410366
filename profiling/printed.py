"""Tables on the terminal."""

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.console import Console
from rich.table import Table


def print_table(rows: pd.DataFrame, title: str) -> None:
    """Print rows; numbers are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="dim")
    for name in rows.columns:
        table.add_column(str(name), justify="right" if is_numeric_dtype(rows[name]) else "left", no_wrap=True)
    for row in rows.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    console = Console()
    # A table that is cut to the width of a pipe would lose figures.
    Console(width=max(console.width, 160)).print(table) if not console.is_terminal else console.print(table)
