//! The client side of the two doors.
