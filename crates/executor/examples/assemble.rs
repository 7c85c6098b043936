//! Assembles one release, for the test that kills it on the way: `assemble ROOT APP DIGEST`.

use allod_executor::{
    assemble::{AssembleLimits, assemble},
    isolation::Isolation,
    layout::Layout,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(root), Some(Ok(app)), Some(Ok(digest))) =
        (args.next(), args.next().map(|text| text.parse()), args.next().map(|text| text.parse()))
    else {
        return ExitCode::from(2);
    };
    let layout = Layout::new(&root, &root);
    match assemble(&layout, &Isolation::SameUser, &app, &digest, &AssembleLimits::default()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
