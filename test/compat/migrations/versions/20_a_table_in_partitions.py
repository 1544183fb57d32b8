"""A table in partitions"""
import sqlalchemy as sa
from alembic import op

revision = "20"
down_revision = "19"


def upgrade():
    op.create_table(
        "visit",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), sa.ForeignKey("customer.id", name="fk_visit_customer"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("customer_id", "day", name="pk_visit"),
        postgresql_partition_by="RANGE (day)")
    op.execute("CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')")
    op.execute("CREATE TABLE visit_2 (LIKE visit INCLUDING ALL)")
    op.execute("INSERT INTO visit_2 SELECT '2020-02-10', g FROM generate_series(1, 10) g")
    op.execute("ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2020-02-01') TO ('2020-03-01')")
    op.execute("CREATE TABLE visit_rest PARTITION OF visit DEFAULT")
    op.create_index("ix_visit_n", "visit", ["n", "day"])
    op.execute("INSERT INTO visit SELECT '2020-01-15'::date + g * 10, g FROM generate_series(1, 10) g")
    op.execute("INSERT INTO visit VALUES ('2020-02-10', 3, 5) ON CONFLICT (customer_id, day) DO UPDATE SET n = visit.n + excluded.n")


def downgrade():
    op.execute("ALTER TABLE visit DETACH PARTITION visit_2")
    op.drop_table("visit_2")
    op.drop_table("visit")
