"""An enum gets values"""
import sqlalchemy as sa
from alembic import op

revision = "08"
down_revision = "07"


def upgrade():
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE mood ADD VALUE 'fine' BEFORE 'bad'")
        op.execute("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'awful'")
    op.execute("UPDATE customer SET mood = 'fine' WHERE id % 7 = 0")
    op.create_index("ix_customer_mood", "customer", ["mood", "id"])


def downgrade():
    op.drop_index("ix_customer_mood")
    op.drop_index("ix_customer_bad")
    op.execute("UPDATE customer SET mood = 'good' WHERE mood NOT IN ('good', 'bad')")
    op.execute("ALTER TYPE mood RENAME TO mood_before")
    sa.Enum("good", "bad", name="mood").create(op.get_bind())
    op.execute("ALTER TABLE customer ALTER mood DROP DEFAULT, ALTER mood TYPE mood USING mood::text::mood, ALTER mood SET DEFAULT 'good'")
    op.execute("DROP TYPE mood_before")
    op.create_index("ix_customer_bad", "customer", ["zip"], postgresql_where=sa.text("mood = 'bad'"))
