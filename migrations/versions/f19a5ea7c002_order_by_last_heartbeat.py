"""An index of the clients' last heartbeats, so that a list in their order reads no further than its page.

Revision ID: f19a5ea7c002
Revises: a0711f1ca702
"""

from alembic import op

revision = "f19a5ea7c002"
down_revision = "a0711f1ca702"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_index("ix_clients_last_alive", "clients", ["last_alive", "uuid"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_clients_last_alive", "clients")
