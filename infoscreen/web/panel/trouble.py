"""What the panel says while the database takes nothing: a sentence for each kind of trouble."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.errors import Trouble
from infoscreen.words.language import N_

SENTENCES: Mapping[Trouble, str] = MappingProxyType(
    {
        Trouble.UNREACHABLE: N_("The database cannot be reached."),
        Trouble.STARTING: N_("The database is starting or stopping."),
        Trouble.REFUSED: N_("The database refuses the connection."),
        Trouble.NO_CONNECTION_FREE: N_("No connection to the database is free."),
        Trouble.LOCKED: N_("Another program holds the lock of the database."),
        Trouble.TIMED_OUT: N_("The database did not answer in time."),
        Trouble.CONFLICT: N_("The database aborted a transaction."),
        Trouble.READ_ONLY: N_("The database can only be read."),
        Trouble.FULL: N_("The disk or the memory of the database is full."),
        Trouble.INPUT_OUTPUT: N_("The database cannot read or write its files."),
        Trouble.MISSING: N_("The database's file is not where it was. Put it back."),
        Trouble.REPLACED: N_(
            "Another file was put in the place of the database. Restart the server to use it."
        ),
        Trouble.DAMAGED: N_("The database is damaged. Restore a backup."),
        Trouble.NOT_OPEN: N_("The database has not been opened yet."),
    }
)
