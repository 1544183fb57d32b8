"""Tables get other names"""
import sqlalchemy as sa
from alembic import op

revision = "11"
down_revision = "10"


def upgrade():
    op.rename_table("purchase", "orders")
    op.rename_table("item", "order_line")
    op.alter_column("order_line", "purchase_id", new_column_name="order_id")
    op.execute("ALTER INDEX purchase_pkey RENAME TO orders_pkey")
    op.execute("ALTER TABLE order_line RENAME CONSTRAINT item_pkey TO order_line_pkey")
    op.execute("ALTER SEQUENCE address_id_seq RENAME TO address_number")


def downgrade():
    op.execute("ALTER SEQUENCE address_number RENAME TO address_id_seq")
    op.execute("ALTER TABLE order_line RENAME CONSTRAINT order_line_pkey TO item_pkey")
    op.execute("ALTER INDEX orders_pkey RENAME TO purchase_pkey")
    op.alter_column("order_line", "order_id", new_column_name="purchase_id")
    op.rename_table("order_line", "item")
    op.rename_table("orders", "purchase")
