//! The flags that every long-running program has, and what they do.

use crate::{
    LogForm, LoggingError, ParentError, close_to_inspection, die_with_parent, logging, write_no_core_dumps,
};

/// Flags of every long-running program; flatten them into the program's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CommonFlags {
    /// Which log lines to keep, such as info or warn,allod_agent=debug
    #[arg(long, value_name = "FILTER", env = "ALLOD_LOG", default_value = "info")]
    pub log: String,
    /// How log lines look
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub log_form: LogForm,
    /// End when the program that started this one ends
    ///
    /// With a process id, also end when the parent is already another.
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true)]
    pub die_with_parent: Option<Option<u32>>,
}

/// Why a program could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Logging could not be started.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The tie to the parent could not be made.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// The program could not be closed to inspection.
    #[error("the program's memory can't be kept from core dumps and other programs")]
    Inspection(#[source] std::io::Error),
}

impl CommonFlags {
    /// Closes the program to inspection, starts logging and, if asked, ties it to its parent. First in every program.
    ///
    /// # Errors
    /// [`BeginError`]; the program must not run then.
    pub fn begin(&self) -> Result<(), BeginError> {
        write_no_core_dumps().and_then(|()| close_to_inspection()).map_err(BeginError::Inspection)?;
        if let Some(expected) = self.die_with_parent {
            die_with_parent(expected)?;
        }
        logging::start(&self.log, self.log_form)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonFlags,
        rest: Vec<String>,
    }

    fn read(flags: &[&str]) -> Result<Program, clap::Error> {
        Program::try_parse_from(std::iter::once("program").chain(flags.iter().copied()))
    }

    #[test]
    fn a_parent_that_is_no_process_id_is_refused() {
        assert!(read(&["--die-with-parent=me"]).is_err());
        assert!(read(&["--log-form=xml"]).is_err());
    }

    #[test]
    fn the_parent_may_be_named_and_need_not_be() {
        assert_eq!(read(&[]).unwrap().common.die_with_parent, None);
        assert_eq!(read(&["--die-with-parent"]).unwrap().common.die_with_parent, Some(None));
        assert_eq!(read(&["--die-with-parent=7"]).unwrap().common.die_with_parent, Some(Some(7)));
        assert_eq!(read(&["--die-with-parent", "7"]).unwrap().rest, ["7"], "a value needs the =");
    }
}
