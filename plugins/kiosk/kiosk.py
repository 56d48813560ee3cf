"""A shop kiosk: what there is, what it costs, orders for pick-up, messages to the staff. The books are in `shop`.

Answers are read to customers, so `summary` holds the sentence wherever wording depends on the value.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from shop import Shop, money

from edged.plugin import Choice, Number, Span, ToolError, state_dir, tool

Result = dict[str, object]


@functools.cache
def books() -> Shop:
    return Shop(state_dir() / "kiosk.sqlite3")


def products() -> list[str]:
    return books().products()


def categories() -> list[str]:
    return books().categories()


@tool(
    say="{summary}",
    say_error="{error}",
    examples=["what do you have in audio", "show me your cables", "which phones accessories do you sell"],
)
def list_products(category: Annotated[str, Choice(categories)]) -> Result:
    """List the products of a category"""
    names = [row["product"] for row in books().in_category(category)]
    listed = ", ".join(names)
    return {
        "category": category,
        "count": len(names),
        "products": listed,
        "summary": f"In {category} we have {listed}.",
    }


@tool(
    say="{summary}",
    say_error="{error}",
    examples=["do you have a 4k monitor", "is the soundbar in stock", "how many power banks are left"],
)
def check_stock(product: Annotated[str, Choice(products)]) -> Result:
    """Check how many of a product are in stock"""
    row = books().product(product)
    stock, shelf = row["stock"], row["shelf"]
    summary = f"We have {stock} of {product} in stock, on shelf {shelf}."
    if stock == 0:
        summary = f"Sorry, {product} is out of stock."
    elif stock == 1:
        summary = f"There is one {product} left, on shelf {shelf}."
    return {"product": product, "stock": stock, "shelf": shelf, "summary": summary}


@tool(
    say="{summary}",
    say_error="{error}",
    examples=["what else is there like the soundbar", "is there an alternative to the record player"],
)
def find_alternatives(product: Annotated[str, Choice(products)]) -> Result:
    """Find products similar to a product"""
    row = books().product(product)
    others = [r for r in books().in_category(row["category"]) if r["product"] != product and r["stock"] > 0]
    nearest = sorted(
        others, key=lambda r: (-_alike(product, r["product"]), abs(r["price_cents"] - row["price_cents"]))
    )[:3]
    listed = "; ".join(f"{r['product']} for {money(r['price_cents'])}, shelf {r['shelf']}" for r in nearest)
    summary = f"Instead of {product} we have: {listed}." if listed else f"We have nothing like {product} in stock."
    return {"product": product, "count": len(nearest), "alternatives": listed or "none in stock", "summary": summary}


@tool(
    say="{summary}",
    say_error="{error}",
    examples=["how much is a webcam", "what do three hdmi cables cost", "price of the projector please"],
)
def quote_price(product: Annotated[str, Choice(products)], quantity: Annotated[int, Number(1, 1000)] = 1) -> Result:
    """Quote the price of a product"""
    each = books().product(product)["price_cents"]
    summary = f"{quantity} of {product} cost {money(each * quantity)}, {money(each)} each."
    if quantity == 1:
        summary = f"The price of {product} is {money(each)}."
    prices = {"price": money(each), "price_cents": each, "total": money(each * quantity)}
    return {"product": product, "quantity": quantity, **prices, "summary": summary}


@tool(
    say="Done! Your order {order} for {quantity} x {product} comes to {total}. We will have it ready for pick-up.",
    say_error="{error}",
    idempotent=False,
    examples=["order two usb hubs", "i want to buy a desk lamp", "put aside a smart watch for me"],
)
def place_order(product: Annotated[str, Choice(products)], quantity: Annotated[int, Number(1, 1000)] = 1) -> Result:
    """Order a product for pick-up"""
    code, total = books().place(product, quantity)
    return {"order": code, "product": product, "quantity": quantity, "total": money(total)}


@tool(
    say="Order {order}, {quantity} x {product}, is {status}.",
    say_error="{error}",
    examples=["where is my order k1004", "is order K1001 ready"],
)
def order_status(order: Annotated[str, Span()]) -> Result:
    """Look up the status of an order"""
    digits = "".join(letter for letter in order if letter in "0123456789")
    row = books().order(int(digits)) if 0 < len(digits) < 16 else None
    if row is None:
        raise ToolError(f"Sorry, I cannot find an order {order.strip()[:40]}.")
    return {
        "order": f"K{row['number']}",
        "product": row["product"],
        "quantity": row["quantity"],
        "status": row["status"],
    }


@tool(
    say="Thank you. I have told the staff, the ticket is {ticket}.",
    say_error="{error}",
    idempotent=False,
    examples=["the card reader does not work", "tell someone that the door is stuck, it is urgent"],
)
def create_ticket(problem: Annotated[str, Span()], priority: Literal["low", "medium", "high"] = "medium") -> Result:
    """Report a problem to the staff"""
    ticket = books().report(_worded("problem", problem), priority)
    return {"ticket": ticket, "problem": problem, "priority": priority}


@tool(
    say="We will call {customer} back, {time}.",
    say_error="{error}",
    idempotent=False,
    examples=["call mrs novak back tomorrow at ten", "schedule a call to Jan on friday morning"],
)
def schedule_callback(customer: Annotated[str, Span()], time: Annotated[str, Span()]) -> Result:
    """Book a call back to a customer"""
    code = books().call_back(_worded("customer", customer), _worded("time", time))
    return {"callback": code, "customer": customer, "time": time}


def _worded(name: str, text: str) -> str:
    if not text.strip() or len(text) > 500:
        raise ToolError(f"The {name} must be a few words.")
    return text.strip()


def _alike(one: str, other: str) -> int:
    return len(set(one.split()) & set(other.split()))
