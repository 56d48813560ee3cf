"""Words around the written material: what makes other sentences of a sentence."""

from __future__ import annotations

__all__ = ["ALSO", "ASIDES", "CODES", "IMPERATIVES", "LENGTHS", "NOT", "ROLES", "SYLLABLES"]

SYLLABLES = "ba ko ri tel mon san vi lu dar fen zo pra ki nor um el ta gri sho we dax lin or qua ry bel".split()
ALSO = (
    " and ",
    " and ",
    " and then ",
    " then ",
    ", also ",
    " and also ",
    ". also ",
    ". then ",
    ", and after that ",
    " plus ",
)
NOT = (
    "do not {0}", "don't {0}", "dont {0}", "please don't {0}", "please do not {0}", "never {0}", "no need to {0}",
    "you don't have to {0}", "i didn't ask you to {0}", "under no circumstances {0}", "i don't want you to {0}",
    "nobody should {0}", "whatever you do, don't {0}", "stop trying to {0}", "why would anyone {0}", "how do i {0} myself",
    "yesterday i had to {0}", "i already told you to {0} and it is done", "who told you to {0}", "what happens if i {0}",
)  # fmt: skip
# How people who know a tool say an argument: by the parameter's own name.
ROLES = (
    "{0} {1}", "{0} {1}", "{0} {1}", "{0}: {1}", "{0} is {1}", "{0} = {1}", "with {0} {1}", "the {0} is {1}", "{1} as {0}",
    "{1} as the {0}", "{1} is the {0}", "{1} for {0}", "{0} should be {1}", "for {0} take {1}", "{1} {0}", "{1} ({0})",
    "set {0} to {1}", "make {1} the {0}",
)  # fmt: skip
ASIDES = (
    "{1} is here again. {0}", "as for {1}, forget it, {0}", "{0}, i told {1} already", "{0} before {1} starts to complain",
    "{1} has nothing to do with it but {0}", "{0}, and {1} can wait", "{0}, says {1}", "{0} or {1} gets angry",
    "i was thinking of {1}, anyway {0}", "no more {1} for me. {0}", "{0}, just as {1} did last year", "{0} while i look for {1}",
    "after all that {1}, {0}", "{1} made me late, so {0}", "{0}, it smells of {1} in here", "never mind the {1}, {0}",
)  # fmt: skip
CODES = ("A9", "A99", "A-99", "99A", "AA-9", "A999", "9-99", "AA99")
LENGTHS = {
    "seconds": ("a minute", "half a minute", "two minutes", "{0} minutes", "a minute and a half", "a quarter of an hour"),
    "minutes": (
        "half an hour", "an hour", "one hour", "a quarter of an hour", "an hour and a half", "{0} hours", "two and a half hours",
        "three quarters of an hour", "{0}0 seconds", "half a day", "one hour and {0} minutes", "a full hour", "1h 30m",
    ),
    "hours": ("half an hour", "a day", "two days", "{0}0 minutes", "half a day", "a day and a half", "{0} days", "a whole day"),
    "days": ("a week", "two weeks", "{0} weeks", "48 hours", "a week and a half", "half a week", "one week"),
    "weeks": ("ten days", "{0} days", "twenty days", "100 days"),
}  # fmt: skip
IMPERATIVES = frozenset(
    "turn switch set start stop open close put make add remove delete cancel book reserve send call tell show list find "
    "get give take move bring play pause resume skip raise lower increase decrease dim lock unlock check read write "
    "order buy sell pay transfer print scan schedule plan remind wake note log record report file create change update "
    "rename assign mark move ship deliver track load unload fill empty drain run launch restart reboot reset shut kill "
    "activate deactivate enable disable arm disarm charge pump water feed clean wash heat cool warm dry spray mow cut "
    "convert translate define search look navigate drive park refuel rent hire register enroll issue print renew "
    "approve reject submit release hold block unblock freeze extend shorten prolong swap replace repair fix fetch pull "
    "push lift drop hoist throw let keep pick pack weigh measure test calibrate dispatch notify message text email ring "
    "page announce crank bump flip pop fire dig save share copy export import refund invoice bill quote apply".split()
)
