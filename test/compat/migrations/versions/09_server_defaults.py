"""Defaults of the server's"""
import sqlalchemy as sa
from alembic import op

revision = "09"
down_revision = "08"


def upgrade():
    op.alter_column("product", "price", server_default="9.99")
    op.alter_column("customer", "mood", server_default="fine")
    op.alter_column("customer", "active", server_default=None)
    op.alter_column("customer", "tags", server_default=sa.text("ARRAY['new']"))
    op.alter_column("purchase", "day", server_default=sa.text("'2020-02-02'::date"))
    op.execute("INSERT INTO customer (id, mail, full_name, active, points, version) VALUES (900, 'default@example.org', 'd', true, 1, 1)")
    op.execute("INSERT INTO purchase (id, number, customer_id) VALUES ('00000000-0000-0000-0000-0000000000ff', 9000, 900)")


def downgrade():
    op.execute("DELETE FROM purchase WHERE number = 9000")
    op.execute("DELETE FROM customer WHERE id = 900")
    op.alter_column("purchase", "day", server_default=None)
    op.alter_column("customer", "tags", server_default=None)
    op.alter_column("customer", "active", server_default=sa.true())
    op.alter_column("customer", "mood", server_default="good")
    op.alter_column("product", "price", server_default=None)
