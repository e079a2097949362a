"""One file per table, named as the table: `a-b-c` is `TABLE` in `a/b_c.py`."""
