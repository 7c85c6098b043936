//! The server side of the two doors.
