"""A key of two columns"""
import sqlalchemy as sa
from alembic import op

revision = "12"
down_revision = "11"


def upgrade():
    op.drop_constraint("review_pkey", "review", type_="primary")
    op.create_primary_key("review_pkey", "review", ["product_id", "id"])
    op.create_table(
        "answer",
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text()),
        sa.PrimaryKeyConstraint("product_id", "review_id", "n", name="pk_answer"),
        sa.ForeignKeyConstraint(["product_id", "review_id"], ["review.product_id", "review.id"], name="fk_answer_review", ondelete="CASCADE"))
    op.execute("INSERT INTO answer SELECT product_id, id, n, 'answer' FROM review, generate_series(1, 2) n WHERE id % 4 = 0")


def downgrade():
    op.drop_table("answer")
    op.drop_constraint("review_pkey", "review", type_="primary")
    op.create_primary_key("review_pkey", "review", ["id"])
