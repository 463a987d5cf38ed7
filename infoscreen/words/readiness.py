"""What is said while the daemon cannot do its job: a sentence for each cause."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.errors import StoreTrouble
from infoscreen.domain.readiness import NotReady
from infoscreen.words.language import N_, Table

NOT_READY: Table = MappingProxyType(
    {
        NotReady.DATABASE: N_("%(trouble)s"),
        NotReady.DATABASE_LOCKED: N_("another program holds its lock; messages and commands wait"),
        NotReady.NOT_STORING: N_("messages cannot be stored, the broker keeps them: %(trouble)s"),
        NotReady.NO_CONNECTION: N_("not listening: no connection yet"),
        NotReady.NOT_LISTENING: N_("not listening: %(error)s"),
        NotReady.BROKER_FAULT: N_("not listening: %(fault)s (%(error)s)"),
        NotReady.TAKEN_OVER: N_(
            "another program uses the daemon's client id and gets part of the messages: "
            "two daemons with one MQTT_CLIENT_ID?"
        ),
    }
)

STORE_TROUBLES: Mapping[StoreTrouble, str] = MappingProxyType(
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
