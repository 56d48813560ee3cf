#!/bin/sh
# The daemon in the foreground with the shipped configuration, and how to talk to it.
cat >&2 <<END
edged starts in the foreground; Ctrl-C ends it. In another terminal:

  .venv/bin/edged ask kiosk "do you have the noise cancelling headphones in stock?"
  .venv/bin/edged chat home
  .venv/bin/edged status
  curl --unix-socket .run/edged.sock http://edged/v1/agents/home/requests -d '{"text": "turn on the kitchen light"}'

MQTT is served when a broker listens on 127.0.0.1:1883 (mosquitto is enough):

  mosquitto_sub -V 5 -t 'edged/demo/agents/+/reply/me' &
  mosquitto_pub -V 5 -q 1 -t edged/demo/agents/home/request/me -m 'turn on the kitchen light'

END
exec .venv/bin/edged run --config "${CONFIG:-config}"
