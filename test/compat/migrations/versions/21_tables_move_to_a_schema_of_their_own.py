"""Tables move to a schema of their own"""
import sqlalchemy as sa
from alembic import op

revision = "21"
down_revision = "20"


def upgrade():
    op.execute("CREATE SCHEMA archive")
    op.execute("ALTER TABLE review SET SCHEMA archive")
    op.execute("ALTER TABLE answer SET SCHEMA archive")
    op.create_table("old_customer", sa.Column("id", sa.BigInteger(), sa.ForeignKey("public.customer.id"), primary_key=True),
                    sa.Column("why", sa.Text(), comment="in plain words"), schema="archive", comment="who has left")
    op.execute("INSERT INTO archive.old_customer SELECT id, 'bad' FROM customer WHERE mood = 'bad'")
    op.create_table_comment("customer", "who buys")


def downgrade():
    op.drop_table_comment("customer")
    op.drop_table("old_customer", schema="archive")
    op.execute("ALTER TABLE archive.answer SET SCHEMA public")
    op.execute("ALTER TABLE archive.review SET SCHEMA public")
    op.execute("DROP SCHEMA archive")
