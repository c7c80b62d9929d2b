"""PyMySQL, which prints what it hears: `once` a login and SELECT 1; `later` the same, with a line in between; `stream SQL` rows one by one.

tests/bed/pymysql.rs says where and who, in the environment.
"""

import os
import sys

import pymysql
import pymysql.cursors


def connect():
    env = os.environ
    ca = env.get("MYSQL_CA")
    tls = {"ssl": {"ca": ca}} if ca else {"ssl_disabled": True}
    place = {"unix_socket": env["MYSQL_SOCKET"]} if "MYSQL_SOCKET" in env else {"host": env["MYSQL_HOST"], "port": int(env["MYSQL_PORT"])}
    return pymysql.connect(user=env["MYSQL_USER"], password=env["MYSQL_PASSWORD"], database=env.get("MYSQL_DATABASE"), **place, **tls)


def say(*words):
    print(*words, flush=True)


def main(step, sql="SELECT 1"):
    rows = 0
    try:
        cursor = connect().cursor(pymysql.cursors.SSCursor)
        if step == "later":
            say("in")
            sys.stdin.readline()
        cursor.execute(sql)
        if step == "stream":
            for _ in cursor:
                rows += 1
                if rows == 10:
                    say("streams")
        say(*cursor.fetchone() or ())
    except pymysql.MySQLError as error:
        say(type(error).__name__, *error.args)


main(*sys.argv[1:])
