import pytest
from collector.sinks.postgres import catalogue
from tests.claims.test_planted import *
from tests.claims.test_planted import _of_postgres,_SCHEMA,batch_of
from tests.sinks.postgres import clean, server
@pytest.mark.servers
def test_it(clean,tmp_path):
    with _of_postgres(clean, tmp_path) as sink:
        sink.deliver(batch_of(1, [1], _SCHEMA))
        def look(cursor):
            space=sink._namespace
            exp={*catalogue._OWN.strip().splitlines(), *catalogue._expected(cursor, space)}
            got=[l for (l,) in cursor.execute(catalogue._LINES, {"namespace":space.name}).fetchall()]
            for l in got:
                if l not in exp: print("FOUND", repr(l))
            print(sorted(exp)[:30])
        sink._ask(look,None)
        assert 0
