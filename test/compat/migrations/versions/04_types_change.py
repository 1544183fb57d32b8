"""Types change"""
import sqlalchemy as sa
from alembic import op

revision = "04"
down_revision = "03"


def upgrade():
    op.alter_column("product", "price", type_=sa.Numeric(14, 4), existing_type=sa.Numeric(10, 2))
    op.alter_column("customer", "full_name", type_=sa.Text(), existing_type=sa.String(40))
    op.alter_column("customer", "mail", type_=sa.String(120), existing_type=sa.String(80))
    op.alter_column("item", "quantity", type_=sa.BigInteger(), existing_type=sa.Integer())
    op.alter_column("product", "weight", type_=sa.Integer(), existing_type=sa.Text(), postgresql_using="weight::integer")
    op.alter_column("product", "code", type_=sa.Text(collation="C"), existing_type=sa.String(20))


def downgrade():
    op.alter_column("product", "code", type_=sa.String(20, collation="default"), existing_type=sa.Text(collation="C"))
    op.alter_column("product", "weight", type_=sa.Text(), existing_type=sa.Integer(), postgresql_using="weight::text")
    op.alter_column("item", "quantity", type_=sa.Integer(), existing_type=sa.BigInteger())
    op.alter_column("customer", "mail", type_=sa.String(80), existing_type=sa.String(120))
    op.alter_column("customer", "full_name", type_=sa.String(40), existing_type=sa.Text())
    op.alter_column("product", "price", type_=sa.Numeric(10, 2), existing_type=sa.Numeric(14, 4))
