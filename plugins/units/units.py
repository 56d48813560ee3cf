"""Unit conversion in exact arithmetic: a value is read as the decimal it was written as, and rounded once, at the end.

Each unit is (kind, factor to the kind's base, offset), factors by their legal definitions (inch 25.4 mm, pound 0.45359237 kg).
"""

from __future__ import annotations

from typing import Annotated

from edged.plugin import Choice, Number, ToolError, tool

_DIGITS = 10

# kind -> "factor: spellings", the factor as a fraction or decimal of the kind's base unit
_TABLE = {
    "length": """
        1: m meter meters metre metres
        0.001: mm millimeter millimeters millimetre millimetres
        0.01: cm centimeter centimeters centimetre centimetres
        1000: km kilometer kilometers kilometre kilometres
        0.0254: inch inches
        0.3048: ft foot feet
        0.9144: yd yard yards
        1609.344: mi mile miles
        1852: nautical_mile nautical_miles""",
    "mass": """
        1: kg kilogram kilograms kilo kilos
        0.001: g gram grams
        0.000001: mg milligram milligrams
        1000: t tonne tonnes
        0.45359237: lb lbs pound pounds
        0.028349523125: oz ounce ounces
        6.35029318: stone stones""",
    "volume": """
        1: l liter liters litre litres
        0.001: ml milliliter milliliters millilitre millilitres
        0.01: cl centiliter centiliters centilitre centilitres
        0.1: dl deciliter deciliters decilitre decilitres
        1000: cubic_meter cubic_meters cubic_metre cubic_metres
        3.785411784: gallon gallons
        0.946352946: quart quarts
        0.473176473: pint pints
        0.2365882365: cup cups
        0.0295735295625: fluid_ounce fluid_ounces
        0.01478676478125: tablespoon tablespoons
        0.00492892159375: teaspoon teaspoons""",
    "time": """
        1: s second seconds
        0.001: ms millisecond milliseconds
        60: minute minutes
        3600: h hour hours
        86400: day days
        604800: week weeks""",
    "speed": """
        1: m/s meters_per_second metres_per_second
        5/18: km/h kph kilometers_per_hour kilometres_per_hour
        0.44704: mph miles_per_hour
        463/900: knot knots""",
    "area": """
        1: m2 square_meter square_meters square_metre square_metres
        1000000: km2 square_kilometer square_kilometers square_kilometre square_kilometres
        0.09290304: square_foot square_feet
        4046.8564224: acre acres
        10000: ha hectare hectares""",
    "pressure": """
        1: pa pascal pascals
        100: hpa hectopascal hectopascals
        1000: kpa kilopascal kilopascals
        100000: bar bars
        101325: atm atmosphere atmospheres
        8896443230521/1290320000: psi""",
    "energy": """
        1: joule joules
        1000: kj kilojoule kilojoules
        3600: wh watt_hour watt_hours
        3600000: kwh kilowatt_hour kilowatt_hours
        4184: kcal kilocalorie kilocalories""",
    "power": """
        1: w watt watts
        1000: kw kilowatt kilowatts
        745.69987158227022: hp horsepower""",
    "data": """
        1: byte bytes
        1000: kb kilobyte kilobytes
        1000000: mb megabyte megabytes
        1000000000: gb gigabyte gigabytes
        1000000000000: tb terabyte terabytes
        1024: kib kibibyte kibibytes
        1048576: mib mebibyte mebibytes
        1073741824: gib gibibyte gibibytes""",
    "temperature": """
        1: celsius c degrees_celsius
        5/9: fahrenheit f degrees_fahrenheit
        1: kelvin k""",
}
_OFFSETS = {"celsius": "0", "fahrenheit": "-160/9", "kelvin": "-273.15"}


def _read_table() -> dict[str, tuple[str, str, str]]:
    units: dict[str, tuple[str, str, str]] = {}
    for kind, lines in _TABLE.items():
        for line in lines.strip().splitlines():
            factor, spellings = line.strip().split(": ")
            names = [spelling.replace("_", " ") for spelling in spellings.split()]
            offset = _OFFSETS.get(names[0], "0")
            units |= dict.fromkeys(names, (kind, factor, offset))
    return units


UNITS = _read_table()


@tool(
    say="{amount} {from_unit} is {answer} {to_unit}.",
    say_error="{error}",
    examples=["convert 5 miles to km", "how many ounces are 2 kilos", "what is 100 fahrenheit in celsius"],
)
def convert_units(
    value: Annotated[float, Number(-1e15, 1e15)],
    from_unit: Annotated[str, Choice(tuple(UNITS))],
    to_unit: Annotated[str, Choice(tuple(UNITS))],
) -> dict[str, object]:
    """Convert a value between units"""
    from fractions import Fraction  # late: an idle child does without

    kind, factor, offset = UNITS[from_unit]
    to_kind, to_factor, to_offset = UNITS[to_unit]
    if kind != to_kind:
        raise ToolError(f"{from_unit} is a unit of {kind} and {to_unit} one of {to_kind}, so they do not convert.")
    base = Fraction(repr(value)) * Fraction(factor) + Fraction(offset)
    if kind == "temperature" and base < Fraction("-273.15"):
        raise ToolError(f"{_written(value)} {from_unit} is below absolute zero.")
    exact = (base - Fraction(to_offset)) / Fraction(to_factor)
    result = float(f"{float(exact):.{_DIGITS}g}")
    return {
        "value": value,
        "from_unit": from_unit,
        "to_unit": to_unit,
        "result": result,
        "amount": _written(value),
        "answer": _written(float(f"{result:.6g}")),
    }


def _written(value: float) -> str:
    """5.0 -> "5"; no exponent where a person would write digits."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6f}".rstrip("0") if 1e-4 <= abs(value) < 1 else f"{value:.10g}"
