"""The shop's books in one SQLite file: products, orders, tickets, call backs. Seeded from the CSV files beside this module
when the file is new; from then on the file is the truth. One connection a call, so any thread may call.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from edged.plugin import ToolError

__all__ = ["Shop", "money"]

_HERE = Path(__file__).parent
_SCHEMA = """
CREATE TABLE products (product TEXT PRIMARY KEY, category TEXT NOT NULL, price_cents INTEGER NOT NULL,
    stock INTEGER NOT NULL CHECK (stock >= 0), shelf TEXT NOT NULL);
CREATE TABLE orders (number INTEGER PRIMARY KEY, product TEXT NOT NULL REFERENCES products, quantity INTEGER NOT NULL,
    status TEXT NOT NULL, total_cents INTEGER NOT NULL, created REAL NOT NULL);
CREATE TABLE tickets (number INTEGER PRIMARY KEY, problem TEXT NOT NULL, priority TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE callbacks (number INTEGER PRIMARY KEY, customer TEXT NOT NULL, time TEXT NOT NULL, created REAL NOT NULL);
"""


class Shop:
    """All queries and changes. Money is in cents; codes are "K" orders, "T" tickets, "C" call backs and their number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")  # two first calls at once: one seeds, the other finds it done
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'callbacks'").fetchone():
                _seed(db)
            db.execute("COMMIT")

    def products(self) -> list[str]:
        return [row[0] for row in self._all("SELECT product FROM products ORDER BY rowid")]

    def categories(self) -> list[str]:
        return [row[0] for row in self._all("SELECT category FROM products GROUP BY category ORDER BY MIN(rowid)")]

    def in_category(self, category: str) -> list[sqlite3.Row]:
        return self._all("SELECT * FROM products WHERE category = ? ORDER BY rowid", category)

    def product(self, name: str) -> sqlite3.Row:
        rows = self._all("SELECT * FROM products WHERE product = ?", name)
        if not rows:
            raise ToolError(f"We do not carry {name}.")
        return rows[0]

    def order(self, number: int) -> sqlite3.Row | None:
        return next(iter(self._all("SELECT * FROM orders WHERE number = ?", number)), None)

    def place(self, name: str, quantity: int) -> tuple[str, int]:
        """Take from stock and write the order, both or neither. The order's code and total."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            taken = db.execute(
                "UPDATE products SET stock = stock - ? WHERE product = ? AND stock >= ? RETURNING price_cents",
                (quantity, name, quantity),
            ).fetchone()
            if taken is None:
                db.execute("ROLLBACK")
                raise ToolError(_too_few(name, self.product(name)["stock"]))
            total = quantity * int(taken[0])
            made = db.execute(
                "INSERT INTO orders (product, quantity, status, total_cents, created) VALUES (?, ?, ?, ?, ?)",
                (name, quantity, "being prepared", total, time.time()),
            )
            db.execute("COMMIT")
            return f"K{made.lastrowid}", total

    def report(self, problem: str, priority: str) -> str:
        return (
            f"T{self._insert('INSERT INTO tickets (problem, priority, created) VALUES (?, ?, ?)', problem, priority)}"
        )

    def call_back(self, customer: str, when: str) -> str:
        return f"C{self._insert('INSERT INTO callbacks (customer, time, created) VALUES (?, ?, ?)', customer, when)}"

    def _all(self, sql: str, *params: object) -> list[sqlite3.Row]:
        with self._open() as db:
            return db.execute(sql, params).fetchall()

    def _insert(self, sql: str, *params: object) -> int:
        with self._open() as db:
            return int(db.execute(sql, (*params, time.time())).lastrowid or 0)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=3.0, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")  # an order that was confirmed must outlive the plug
            yield db
        finally:
            db.close()


def money(cents: int) -> str:
    """18900 -> "189.00 euros"."""
    return f"{cents // 100}.{cents % 100:02d} euros"


def _too_few(name: str, stock: int) -> str:
    if stock == 0:
        return f"Sorry, {name} is out of stock."
    return f"Sorry, we have only {stock} of {name} in stock."


def _seed(db: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _SCHEMA.split(";")):
        db.execute(statement)
    for row in _rows("catalogue.csv"):
        values = (row["product"], row["category"], int(row["price_cents"]), int(row["stock"]), row["shelf"])
        db.execute("INSERT INTO products VALUES (?, ?, ?, ?, ?)", values)
    for row in _rows("orders.csv"):
        db.execute(
            "INSERT INTO orders SELECT ?, product, ?, ?, price_cents * ?, ? FROM products WHERE product = ?",
            (int(row["code"][1:]), row["quantity"], row["status"], row["quantity"], time.time(), row["product"]),
        )


def _rows(name: str) -> list[dict[str, str]]:
    import csv  # only the very first start needs it

    with (_HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
