"""Columns and indexes get other names"""
import sqlalchemy as sa
from alembic import op

revision = "03"
down_revision = "02"


def upgrade():
    op.alter_column("customer", "name", new_column_name="full_name")
    op.alter_column("product", "sku", new_column_name="code")
    op.execute("ALTER INDEX ix_customer_name RENAME TO ix_customer_full_name")
    op.execute("ALTER TABLE product RENAME CONSTRAINT product_sku_key TO product_code_key")


def downgrade():
    op.execute("ALTER TABLE product RENAME CONSTRAINT product_code_key TO product_sku_key")
    op.execute("ALTER INDEX ix_customer_full_name RENAME TO ix_customer_name")
    op.alter_column("product", "code", new_column_name="sku")
    op.alter_column("customer", "full_name", new_column_name="name")
