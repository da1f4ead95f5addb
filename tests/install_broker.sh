# Installs mosquitto where that is possible without asking; otherwise says what it is for.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v mosquitto >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing mosquitto for the tests"
    # --no-install-recommends keeps it small; policy-rc.d keeps it from starting a service.
    [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d; made=yes; }
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends mosquitto; } \
        >/dev/null 2>&1 || echo "could not install mosquitto"
    [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
fi
command -v mosquitto >/dev/null || echo "no mosquitto here: tests/split_core/test_session*.py and" \
    "tests/integration/ will be skipped; install it with: sudo apt install mosquitto"
exit 0
