"""Phrases and what they mean for each kind of parameter, the clock at half past two on Wednesday, the 11th of March 2026."""

from __future__ import annotations

# phrase | value; nothing behind the bar: it cannot be read
NUMBERS = """
20%|20
20c|20
5kg|5
1,200 pieces|1200
1,234.56|1234.56
3.5 each|3.5
0,5|0.5
-4 degrees|-4
minus four|-4
negative twelve point five|-12.5
A42|
9:30|
version 1.2.3|
twenty-five percent|25
twenty five|25
fourty two|42
one hundred and five|105
a hundred|100
a hundred and twenty|120
eleven hundred|1100
two hundred and fifty thousand|250000
one o five|105
nineteen ninety|1990
two three|
zero point five|0.5
ninety nine point nine|99.9
two and a half|2.5
one and a quarter|1.25
half|0.5
1/2|0.5
three quarters|0.75
half a dozen|6
a dozen|12
two dozen|24
a couple of them|2
3k|3000
2 million|2000000
two point five million|2500000
50 per cent|50
third|3
the 2nd|2
twenty first|21
an|
a bit|
an item|1
the kitchen one|
the red one|
between 5 and 10|
5-10|
5 to 10|
five or six|
from 5 degrees to 10|
99999999999999999999|
nothing|
""".strip().splitlines()

# parameter named "minutes", a whole number up to 100
MINUTES = """
five minutes|5
an hour|60
an hour and a half|90
half an hour|30
90 seconds|1.5
1h 30m|90
two hours and ten minutes|130
12|12
5 to 10 minutes|
a month|
""".strip().splitlines()

DURATIONS = """
five minutes|PT5M
an hour|PT1H
an hour and a half|PT1H30M
half an hour|PT30M
a half hour|PT30M
two and a half hours|PT2H30M
90 seconds|PT1M30S
1h 30m|PT1H30M
1 hour 30 minutes|PT1H30M
one hour and thirty minutes|PT1H30M
a quarter of an hour|PT15M
three quarters of an hour|PT45M
two days|P2D
a couple of hours|PT2H
a week|P7D
45 min|PT45M
1.5 hours|PT1H30M
twenty-five minutes|PT25M
a minute and a half|PT1M30S
a dozen seconds|PT12S
two weeks and three days|P17D
half a minute|PT30S
1 hr|PT1H
three months|P3M
a year and a half|P1Y6M
ten|
a while|
5 to 10 minutes|
""".strip().splitlines()

DATES = """
today|2026-03-11
tonight|2026-03-11
tomorrow|2026-03-12
yesterday|2026-03-10
the day after tomorrow|2026-03-13
friday|2026-03-13
next friday|2026-03-13
coming thursday|2026-03-12
this saturday|2026-03-14
sunday morning|2026-03-15
on monday|2026-03-16
last friday|2026-03-06
next week|2026-03-18
next month|2026-04-11
in three days|2026-03-14
in two weeks|2026-03-25
a week from now|2026-03-18
in a month|2026-04-11
may 3rd|2026-05-03
the 3rd of may|2026-05-03
the third of may|2026-05-03
twenty first of june|2026-06-21
december 24|2026-12-24
january 5th|2027-01-05
the 24th|2026-03-24
3 may 2027|2027-05-03
12/24/2026|2026-12-24
2026-07-04|2026-07-04
may|
may 2027|
2027|
5|
ten|
whenever|
soon|
the kitchen|
my mother's birthday|
""".strip().splitlines()

TIMES = """
9 am|09:00
9pm|21:00
5 p.m.|17:00
nine|21:00
at nine|21:00
at three|15:00
at two|02:00
9:30|21:30
09:30|09:30
14:05|14:05
half past nine|21:30
quarter to ten|21:45
a quarter past six in the morning|06:15
ten to three|14:50
twenty past four|16:20
noon|12:00
midnight|00:00
seven thirty|19:30
seven thirty in the evening|19:30
six in the morning|06:00
ten o'clock|22:00
eight fifteen pm|20:15
in two hours|16:30
in half an hour|15:00
25:00|
tomorrow|
before lunch|
""".strip().splitlines()

MOMENTS = """
tomorrow at nine|2026-03-12T09:00:00
tomorrow at 9:30 am|2026-03-12T09:30:00
next friday at noon|2026-03-13T12:00:00
friday at 5pm|2026-03-13T17:00:00
at nine|2026-03-11T21:00:00
at 8 am|2026-03-12T08:00:00
tonight at eight|2026-03-11T20:00:00
6 pm today|2026-03-11T18:00:00
tomorrow morning at seven|2026-03-12T07:00:00
tomorrow evening at six|2026-03-12T18:00:00
may 3rd at half past ten|2026-05-03T10:30:00
monday at quarter to eight|2026-03-16T07:45:00
at 17:30 on the 20th of march|2026-03-20T17:30:00
two days from now at 3pm|2026-03-13T15:00:00
in two hours|2026-03-11T16:30:00
in an hour and a half|2026-03-11T16:00:00
in 45 minutes|2026-03-11T15:15:00
now|2026-03-11T14:30:00
tomorrow|
friday|
whenever|
blue|
""".strip().splitlines()
