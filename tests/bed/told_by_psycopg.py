"""psycopg 3 as a client that does nothing and prints what it is told meanwhile. libpq's environment variables say where and who."""

import psycopg


def told(diagnostic):
    print(diagnostic.severity, diagnostic.sqlstate, diagnostic.message_primary, flush=True)


db = psycopg.connect(autocommit=True)
print("in", db.execute("select current_user").fetchone()[0], flush=True)
db.add_notice_handler(told)
try:
    for _ in db.notifies():
        pass
except psycopg.OperationalError:
    print("over", flush=True)
