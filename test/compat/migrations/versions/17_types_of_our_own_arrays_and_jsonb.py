"""Types of our own, arrays and jsonb"""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "17"
down_revision = "16"


def upgrade():
    state = postgresql.ENUM("open", "sent", "done", name="state")
    state.create(op.get_bind())
    op.add_column("orders", sa.Column("state", postgresql.ENUM(name="state", create_type=False), nullable=False, server_default="open"))
    op.add_column("orders", sa.Column("log", postgresql.ARRAY(postgresql.ENUM(name="state", create_type=False))))
    op.execute("UPDATE orders SET state = CASE WHEN paid THEN 'done'::state ELSE 'sent' END, log = ARRAY['open', 'sent']::state[] WHERE number % 2 = 0")
    op.create_index("ix_orders_state", "orders", ["state", "number"], unique=True)
    op.add_column("product", sa.Column("extra", postgresql.JSONB(), nullable=False, server_default="{}"))
    op.execute("UPDATE product SET extra = jsonb_build_object('weight', weight, 'code', code)")
    op.create_index("ix_product_extra", "product", [sa.text("(extra ->> 'code')")])
    op.execute("CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100)")
    op.execute("ALTER TABLE product ADD discount percent DEFAULT 5")


def downgrade():
    op.execute("ALTER TABLE product DROP discount")
    op.execute("DROP DOMAIN percent")
    op.drop_index("ix_product_extra")
    op.drop_column("product", "extra")
    op.drop_index("ix_orders_state")
    op.drop_column("orders", "log")
    op.drop_column("orders", "state")
    postgresql.ENUM(name="state").drop(op.get_bind())
