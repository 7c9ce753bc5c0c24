"""Two hundred crontab lines in the shapes that people's crontabs have, with settings between them."""

TIMES = (
    "* * * * *", "*/5 * * * *", "0 * * * *", "17 3 * * *", "0 0 1 * *", "30 2 * * 1-5", "0 9-17 * * mon-fri", "15,45 * * * *",
    "0 0 1 jan *", "5 4 * * sun", "0 22 * * 1-5", "23 0-20/2 * * *", "0 12 1-7 * 1", "*/10 8-18 * * *", "0 6,18 * * *",
    "59 23 31 12 *", "0 0 * * 7", "1-59/2 * * * *", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@midnight",
    "00 03 * * 0", "*/15\t*\t*\t*\t*", "5  4   *  *  *", "0 0 13 * 5", "0 0 */2 * mon", "30 4 1,15 * 5", "0 */6 * * *",
)  # fmt: skip
COMMANDS = (
    "/usr/local/bin/backup --all", "cd /srv/app && ./bin/run >/dev/null 2>&1", "curl -fsS https://example.com/ping/{n} > /dev/null",
    "/usr/bin/php /var/www/html/artisan schedule:run >> /dev/null 2>&1", "certbot renew --quiet --post-hook 'systemctl reload nginx'",
    "test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "[ -x /usr/lib/php/sessionclean ] && true",
    "pg_dump db{n} | gzip > /backup/db-$(date +\\%F).sql.gz", "find /tmp -type f -mtime +7 -delete", "echo \"it's {n}\"",
    'mail -s "report {n}" ops%Hello,%%this is it.%', "cat%one%two \\% three", "cat \\\\%to stdin {n}", "printf 'a\\\\n{n}'",
    "date +\\%Y-\\%m-\\%d_\\%H:\\%M >> $HOME/when.{n}", "/bin/echo a\\b\\\\c", "flock -n /tmp/lock.{n} -c 'sleep 1'",
    "find . -name '*.log' -exec rm {{}} \\;", "awk '{{print $1}}' < /etc/passwd", "python3 -c 'print(\"%\".join(\"ab\"))'",
    "env | sort > /tmp/env.{n}  ", "A=b C='d e' /opt/x/y.sh {n}", ". ./profile; ./run {n}", "~/bin/sync.sh {n}", "./relative {n}",
    "nice -n 19 ionice -c3 /usr/bin/rsync -a --delete src/ dst/", "wget -q -O - 'http://localhost/cron?key=a%26b' # {n}",
    "if [ -f /tmp/x ]; then echo y; else echo n; fi", "/usr/bin/env bash -lc 'echo {n}'", "# nothing but a comment {n}",
    "echo caf\u00e9 \u4e16\u754c {n}", "echo tab\tand  spaces", "sleep $((RANDOM \\% 30)); echo {n}", "echo trailing\\", "echo \\%\\%\\\\\\%x%in%",
    "cat%\\\\%\\x\\%%", "true && false || echo \"$FOO $BAR\" '{n}'", "x=1; echo $x;", "(echo a; echo b) | tac", '/opt/app/bin/job --at="12:00" -- {n}',
)  # fmt: skip
SETTINGS = (
    "MAILTO=ops@example.com", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", '"FOO"="bar baz"', "FOO-BAR=x",
    "BAR = 'single quoted'  ", 'EMPTY=""', "# a comment", "", "   \t", "HOME=/var/tmp", "LANG=C", 'QUOTED="it\'s"', "'X Y'=z",
    "TZ=Asia/Tokyo", "EQ=a=b=c", "SPACED=a b  c   ", "MAILTO=''", "HASH=a # b", "DOLLAR=$HOME/bin", "LOGNAME=somebody", "PCT=50%",
)  # fmt: skip


def table(lines=200, *, times=None, settings=()):
    """A crontab of so many lines with a setting between every few; `times` in place of each line's own."""
    out = list(settings)
    for number in range(lines):
        if number % 4 == 0:
            out.append(SETTINGS[number // 4 % len(SETTINGS)])
        command = COMMANDS[number % len(COMMANDS)]
        numbered = command.replace("{{", "{").replace("}}", "}").replace("{n}", str(number))
        if "{n}" not in command:
            numbered = f": {number}; {numbered}"
        out.append(f"{times or TIMES[number % len(TIMES)]} {numbered}")
    return "".join(f"{line}\n" for line in out).encode()


NAMES = ("A", "FOO", '"A B"', "'Q'", "X-Y", "A B", '"A=B"', "caf\xe9", "PATH", "MAILTO", "-x", 'a"b')
VALUES = (
    "",
    "x",
    "  x y  ",
    '""',
    "''",
    '"a b"',
    '"a" ',
    '"a" b',
    '"open',
    "'x\"",
    "\"'q'\"",
    "a=b",
    '"a "',
    "x\r",
    ' ""',
    "\t",
    "caf\xe9",
)
LETTERS = (*"abc %\\'\"=#$;&|*?~\t-", "\xe9", "\\%", "%%", "x y", "\r")


def strange_table(chance):
    """A crontab of one to three lines that people would hardly write, in Latin-1; `chance` is a random.Random."""

    def item(low, high):
        a, b = sorted((chance.randint(low, high), chance.randint(low, high)))
        shapes = (
            "*",
            f"*/{chance.randint(1, high)}",
            str(a),
            f"{a}-{b}",
            f"{a}-{b}/{chance.randint(1, 9)}",
            f"{a}/{b + 1}",
            str(high + 1),
        )
        return chance.choices(shapes, (8, 4, 8, 6, 4, 1, 1))[0]

    def field(low, high):
        return ",".join(item(low, high) for _ in range(chance.choice((1, 1, 1, 2, 3)))) + chance.choice(
            [""] * 40 + ["#x", ",", "x"]
        )

    def line():
        if chance.random() < 0.4:
            return f"{chance.choice(NAMES)}{chance.choice(('', ' '))}={chance.choice(('', ' '))}{chance.choice(VALUES)}"
        times = " ".join(field(*span) for span in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)))
        times = chance.choice((*[times] * 8, "@daily", "@Daily", "@yearly", "@reboot"))
        return f"{times}{chance.choice((' ', chr(9)))}{''.join(chance.choices(LETTERS, k=chance.randint(1, 12)))}"

    lines = [chance.choice(("", "", "", " ", chr(9))) + line() for _ in range(chance.randint(1, 3))]
    return ("\n".join(lines) + chance.choice(("\n", "\n", "\n", "\n", "\n", ""))).encode("latin-1")
