"""NULL no more"""
import sqlalchemy as sa
from alembic import op

revision = "10"
down_revision = "09"


def upgrade():
    op.execute("UPDATE customer SET phone = 'none ' || id WHERE phone IS NULL")
    op.alter_column("customer", "phone", nullable=False, existing_type=sa.String(30))
    op.execute("UPDATE customer SET tags = '{}' WHERE tags IS NULL")
    op.alter_column("customer", "tags", nullable=False)
    op.alter_column("address", "street", nullable=True, existing_type=sa.Text())
    op.execute("UPDATE address SET street = NULL WHERE id % 10 = 0")


def downgrade():
    op.execute("UPDATE address SET street = 'street of ' || id WHERE street IS NULL")
    op.alter_column("address", "street", nullable=False, existing_type=sa.Text())
    op.alter_column("customer", "tags", nullable=True)
    op.alter_column("customer", "phone", nullable=True, existing_type=sa.String(30))
