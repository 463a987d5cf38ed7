"""What the panel says while the database takes nothing: a sentence for each kind of trouble."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.errors import StoreTrouble
from infoscreen.words.language import N_

SENTENCES: Mapping[StoreTrouble, str] = MappingProxyType(
    {
        StoreTrouble.UNREACHABLE: N_("The database cannot be reached."),
        StoreTrouble.STARTING: N_("The database is starting or stopping."),
        StoreTrouble.REFUSED: N_("The database refuses the connection."),
        StoreTrouble.NO_CONNECTION_FREE: N_("No connection to the database is free."),
        StoreTrouble.LOCKED: N_("Another program holds the lock of the database."),
        StoreTrouble.TIMED_OUT: N_("The database did not answer in time."),
        StoreTrouble.CONFLICT: N_("The database aborted a transaction."),
        StoreTrouble.READ_ONLY: N_("The database can only be read."),
        StoreTrouble.FULL: N_("The disk or the memory of the database is full."),
        StoreTrouble.INPUT_OUTPUT: N_("The database cannot read or write its files."),
        StoreTrouble.MISSING: N_("The database's file is not where it was. Put it back."),
        StoreTrouble.REPLACED: N_(
            "Another file was put in the place of the database. Restart the server to use it."
        ),
        StoreTrouble.DAMAGED: N_("The database is damaged. Restore a backup."),
        StoreTrouble.NOT_OPEN: N_("The database has not been opened yet."),
    }
)
