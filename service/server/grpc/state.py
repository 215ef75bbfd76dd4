"""The state of an HTTP/2 connection: h2's, with our limits."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder

from service.server.grpc.frames import MAX_FRAME_BYTES, MAX_HEAD_BYTES

MAX_CALLS = 100  # at a time on one connection
CALL_WINDOW_BYTES = 262_144  # of a message, that may come before the application takes them
WINDOW_BYTES = 1_048_576  # the same for all calls of a connection
DEFAULT_WINDOW_BYTES = 65_535
MAX_TABLE_BYTES = 4096  # of the headers that an encoder remembers


class BoundedEncoder(Encoder):
    """hpack's encoder, which remembers few headers even if the client has room for more.

    It looks at all that it remembers for each header of each answer.
    """

    @property
    def header_table_size(self) -> int:
        """The bytes of the headers that it remembers."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        limited = min(value, MAX_TABLE_BYTES)
        Encoder.header_table_size.fset(self, limited)  # type: ignore[attr-defined]


class BoundedConnection(H2Connection):
    """h2's connection, which remembers fewer of the calls that have ended."""

    MAX_CLOSED_STREAMS = 2 * MAX_CALLS


def make_h2() -> BoundedConnection:
    """Return the state of a new connection. What it has to send first says our limits."""
    state = BoundedConnection(H2Configuration(client_side=False, header_encoding=None))
    state.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CALLS,
            SettingCodes.INITIAL_WINDOW_SIZE: CALL_WINDOW_BYTES,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
        },
    )
    state.encoder = BoundedEncoder()
    state.decoder.max_header_list_size = MAX_HEAD_BYTES
    state.initiate_connection()
    state.increment_flow_control_window(WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
    return state
