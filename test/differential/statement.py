"""One statement, with what must be known of it."""


class Statement:
    """kind: for the counts.  ordered: rows come in a given order.  lock: it may wait; point: for at most one row, then.
    rewrite: older snapshots see an empty table afterwards, as in core.
    """

    def __init__(self, kind, sql, ordered=False, data=None, lock=False, point=False, ddl=False, rewrite=False, **extra):
        self.kind, self.sql, self.ordered, self.data = kind, sql, ordered, data
        self.lock, self.point, self.ddl, self.rewrite = lock, point, ddl, rewrite
        self.extra = extra
