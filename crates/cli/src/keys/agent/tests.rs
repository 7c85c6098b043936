//! A fake agent on a socket, answering what it is told to.
