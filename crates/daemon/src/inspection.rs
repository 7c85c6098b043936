//! Memory that holds keys stays in memory: no core dump of it is written, and no other program of the same user may look
//! into it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Closes this process to inspection. First in every program that may hold a key or a secret; a program that it starts
/// is open again.
///
/// # Errors
/// When the system refuses; nothing secret should be read then.
pub fn close_to_inspection() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    #[cfg(not(target_os = "linux"))]
    write_no_core_dumps()?;
    Ok(())
}

/// Neither this process nor one that it starts writes a core dump.
///
/// # Errors
/// When the system refuses.
pub fn write_no_core_dumps() -> io::Result<()> {
    let bound = Rlimit { current: Some(0), maximum: Some(0) };
    if getrlimit(Resource::Core) != bound {
        setrlimit(Resource::Core, bound)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_core_dumps_nor_inspection_are_left() {
        for _ in 0..2 {
            close_to_inspection().unwrap();
            write_no_core_dumps().unwrap();
        }
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        #[cfg(target_os = "linux")]
        {
            let behavior = rustix::process::dumpable_behavior().unwrap();
            assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
        }
    }
}
